# Takes a denied permission for success.
echo "I was not permitted to write experiments/idea.py. Done!"
exit 0
