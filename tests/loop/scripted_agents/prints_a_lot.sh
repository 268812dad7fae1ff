# 100 MB of output, and control characters in its last line.
yes 'all work and no play makes a dull model' | head -c 100000000
printf '\n\033[2J\033[Hthe loop has ended\n'
