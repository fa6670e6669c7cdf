"""When labels are seen in a video: frame features become log-odds per label and bin, and these become runs of bins.

    scores.py, windows.py    cosines of frames with labels, above the null level
    null_level.py            the exact median that is the null level
    log_odds.py              log-odds against typical phrases and rivals; log-odds of a saved classifier
    decoding.py              the most likely runs of each label
    localise.py              all steps, in blocks of labels

A bin is 1 / fps seconds of a video, represented by the frame shown at its middle.

Letters: T bins, R bins whose frame could be read, C classes, P phrases of a lexicon, D embedding, W windows, w frames
of a window.
"""
