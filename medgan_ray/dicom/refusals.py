"""The codes by which reading refuses a file, each with what it means."""

REFUSALS = {
    "broken_header": "the DICOM header cannot be parsed, or lacks or contradicts what pixels need",
    "burned_in": "the header says that text is burned into the pixels, and ingest.text is not keep",
    "color": "a color image; take its brightness with ingest.color=luma",
    "decoder_crashed": "the decoding process died on it",
    "derived": "a projection, rendering, screen image or calculated map; take them with ingest.derived=true",
    "empty_file": "no bytes",
    "header_lies": "the header's rows and columns differ from those of the compressed image",
    "localizer": "a scout or localizer",
    "no_pixels": "a DICOM object without pixels (report, plan, presentation, directory)",
    "no_rescale": "CT without rescale slope and intercept: not in Hounsfield units",
    "no_suv": "PET without the weight, dose, half-life or times that standardized uptake values need",
    "not_an_image": "neither DICOM nor NIfTI, NPZ, PNG, JPEG or TIFF",
    "not_a_scan": "pixels that are no scan (segmentation, dose, parametric map, microscopy, photograph)",
    "over_memory": "decoding it took more memory than allowed",
    "secondary_capture": "a screen shot, scanned film or generated image; take them with ingest.secondary=true",
    "too_large": "it claims more pixels, or has more frames, items or parts, than allowed",
    "too_slow": "decoding it took longer than allowed",
    "truncated_pixels": "fewer bytes of pixels than the header claims",
    "undecodable": "no decoder reads its pixels",
    "unreadable": "the file cannot be opened",
    "unsupported_pixels": "a kind of pixel that is not supported (an unknown color space, numbers that are none)",
}


class Refused(Exception):
    """A file that is not taken: ``code`` is a key of ``REFUSALS``; ``detail`` is for the terminal only."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code, self.detail = code, " ".join(detail.split())[:200]
