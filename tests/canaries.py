"""Data sets full of canaries: text that could name a person, in every attribute that can hold one."""

from pydicom.datadict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

CANARY = "QXZKANARI"
UID = "1.2.826.0.1.3680043.2.1143.7712301"
PLANTED = (CANARY, UID, "19510607", "zebrafinch")
LIMITS = {"AE": 16, "CS": 16, "LO": 64, "PN": 64, "SH": 16, "UR": 64}
TEXTS = (*LIMITS, "LT", "ST", "UC", "UT")
LEFT = {
    "Modality",
    "PhotometricInterpretation",
    "SpecificCharacterSet",
    "ImageType",
    "RescaleType",
    "BurnedInAnnotation",
}
"""What decides how pixels are read: a canary there would only have the file refused."""


def fill(dataset: Dataset, number: int, last_group: int) -> None:
    """Plant a canary in every attribute of text, date and UID that the dictionary knows up to a group."""
    for tag, (vr, *_, keyword) in DicomDictionary.items():
        if not 8 <= tag >> 16 <= last_group or keyword in LEFT or "ClassUID" in keyword:
            continue
        value = f"{CANARY}{number}" if vr in TEXTS else {"DA": "19510607", "DT": "19510607", "UI": UID}.get(vr)
        if value:
            dataset.add(DataElement(tag, vr, value, validation_mode=0))
    block = dataset.private_block(0x0029, f"{CANARY} MAKER", create=True)
    block.add_new(1, "LO", CANARY)
    block.add_new(2, "UN", CANARY.encode())
