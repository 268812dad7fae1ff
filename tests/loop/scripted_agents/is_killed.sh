# Ends by a signal, as a program does for which memory was not enough.
kill -KILL $$
