"""Six measures that compare a picture with its pristine original, one file each: PSNR, SSIM, MS-SSIM, GMSD, VIF, FSIM.

Each file holds ``compare(picture, original)`` of two (H, W, 3) uint8 sRGB arrays of one size, and says where the
measure comes from. They have no weights; what a number of theirs means, the cards beside them say.
"""
