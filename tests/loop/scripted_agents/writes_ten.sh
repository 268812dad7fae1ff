# Ten experiments at once.
for number in 11 12 13 14 15 16 17 18 19 20; do
    printf '"""Idea %s."""\nfrom baseline import *\n\nWIDTH = %s\n' "$number" "$((number * number + 20))" \
        > "experiments/idea_$number.py"
done
