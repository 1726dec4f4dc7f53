"""Small files of DICOM and NIfTI, of a patient with a name."""

import numpy as np

NAME = "Zweibrücken^Hieronymus"


def dicom(path, values, **elements):
    """Write a small DICOM file of a patient with a name."""
    import pydicom

    values = np.asarray(values)
    data = pydicom.dataset.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3"
    data.SOPClassUID = pydicom.uid.CTImageStorage
    data.SpecificCharacterSet = "ISO_IR 192"
    data.PatientName, data.PatientID = NAME, "QX-4711-Z"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = values.shape[-2:]
    if values.ndim == 3:
        data.NumberOfFrames = len(values)
    data.BitsAllocated = data.BitsStored = values.dtype.itemsize * 8
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(values.dtype.kind == "i")
    for name, value in elements.items():
        setattr(data, name, value)
    data.PixelData = values.tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


def volume(path, values):
    import nibabel

    # right, anterior and superior are stored the other way round
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.0, -1.0, -1.0, 1.0])), path)
    return path
