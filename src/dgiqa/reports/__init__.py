"""What is made of rows once they are there: two models compared, a page to look through.

``rows.py`` reads what ``dgiqa score --out`` wrote; the others take rows and know nothing of files.
"""
