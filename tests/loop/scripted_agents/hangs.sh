# Waits for ever, with a child that ignores what is polite.
echo "thinking"
(trap '' TERM HUP INT; sleep 1000) &
sleep 1000
