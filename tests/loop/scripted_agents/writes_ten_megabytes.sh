# A file that is far too large.
yes '# all work and no play makes a dull model' | head -c 10000000 > experiments/novel.py
