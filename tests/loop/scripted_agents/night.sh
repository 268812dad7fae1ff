# One agent that is another script in each round: round N runs the N-th line of the file named by $1.
here=$(dirname "$0")
exec sh "$here/$(sed -n "${AUTORESEARCH_ROUND}p" "$1").sh"
