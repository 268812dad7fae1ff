# Reads the whole prompt and waits for an answer, from its input and from the terminal.
cat > /dev/null
echo "May I write a file? [y/N]"
read -r answer || echo "no answer"
read -r answer < /dev/tty || echo "no terminal"
exit 0
