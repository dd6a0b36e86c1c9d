"""How good an image is, and beside what: metrics, scores, tables, figures.

metrics  PSNR, SSIM, RMSE
detail   sharpness, power spectrum, consistency with LR
perceptual  LPIPS and DISTS, where they are at hand
measures which of those an evaluation takes
scores   scores over ranks, beside the plain resamplings
lowres   how LR is made of HR, and whether it fits the weights
testset  HR and LR pairs of folders and shards
table    evaluate's table
printed  that as text, Markdown, JSON and CSV
degraded what training would see of some images, to look at
figure   one image by several methods, side by side
columns  the page that it is drawn on
terminal a sample grid as text of a terminal
grid     LR | bicubic | SR | HR of a run
"""
