"""Medical images: DICOM and NIfTI, as slices."""
