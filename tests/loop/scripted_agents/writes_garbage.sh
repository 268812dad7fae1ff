# A file that is no text and one that is no Python, the same ones however often it is asked.
printf '\377\376\000garbage' > experiments/bytes.py
echo 'Sure! Here is the experiment: ```python' > experiments/chat.py
