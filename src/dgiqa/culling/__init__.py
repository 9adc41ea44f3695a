"""From scored pictures to keep, review and reject.

alike.py     which pictures show the same: bursts and near duplicates
decide.py    a verdict on each, with its reason
apply.py     links, ratings, or a move that can be undone; nothing is ever deleted
"""
