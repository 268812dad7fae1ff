# One good experiment.
echo "a learning rate that pays" > idea.txt
printf '"""A learning rate that pays."""\nfrom baseline import *\n\nLEARNING_RATE = 0.0123  # pays #\n' \
    > experiments/pays.py
