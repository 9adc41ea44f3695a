"""SaTQA: attention between what is seen and how it is spoiled; the latter learnt by contrast before."""
