"""Small files of DICOM and NIfTI, of a patient with a name."""

import base64
import gzip
import re
import zipfile
import zlib
from contextlib import suppress
from io import BytesIO

import numpy as np
import pandas as pd

NAME = "Zweibrücken^Hieronymus"
TEXTS = NAME, "Hieronymus", "QX-4711-Z", "1.2.840"
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{40,}={0,2}")


def contents(file):
    """The bytes of a file, and what is packed in it: archives, tables, what a page embeds."""
    whole = file.read_bytes()
    yield whole
    if whole[:2] == b"\x1f\x8b":
        yield gzip.decompress(whole)
    if whole[:2] == b"PK":
        with zipfile.ZipFile(BytesIO(whole)) as archive:
            yield from map(archive.read, archive.namelist())
    if file.suffix == ".parquet":
        yield pd.read_parquet(file).to_csv().encode()
    if file.suffix == ".html":
        for packed in _BASE64.findall(whole):
            with suppress(ValueError):
                yield (embedded := base64.b64decode(packed))
                with suppress(zlib.error):
                    yield zlib.decompress(embedded)


def check_no_patient(files):
    """Check that no file holds a text that tells the patient of `dicom`, packed or not."""
    for file in files:
        for content in contents(file):
            for text in TEXTS:
                escaped = text.encode("ascii", "backslashreplace")
                for form in (text.encode(), escaped, text.encode("utf-32-le")):
                    assert form not in content, (file, text)


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
