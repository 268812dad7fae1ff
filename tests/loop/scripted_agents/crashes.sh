# Fails before it has done anything.
echo "Error: rate limit exceeded, try again in 5 h" >&2
exit 1
