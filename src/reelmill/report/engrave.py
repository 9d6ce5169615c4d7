"""The program that ``engraving`` runs: ABC at descriptor 3, SVG to descriptor 4, exit code 1 if it has none.

It stands alone (Verovio and the standard library), so that it needs nothing of its parent's environment.
"""

import os
import sys


def main(seed: int) -> int:
    """Engrave the first page, which is as high as the tune needs."""
    import verovio

    with os.fdopen(3, "rb") as source:
        source.seek(0)
        abc = source.read().decode()
    verovio.enableLog(verovio.LOG_OFF)
    toolkit = verovio.toolkit()
    toolkit.setOptions(
        {
            "inputFrom": "abc",
            "pageWidth": 1300,
            "pageHeight": 60000,
            "adjustPageHeight": True,
            "pageMarginLeft": 10,
            "pageMarginRight": 10,
            "pageMarginTop": 10,
            "pageMarginBottom": 10,
            "breaks": "auto",
            "header": "none",  # the page has the title as text
            "footer": "none",
            "scale": 50,
            "svgViewBox": True,
            "svgRemoveXlink": True,
            "svgFormatRaw": True,  # without indentation: a third smaller
            "smuflTextFont": "none",  # the default refers to a font elsewhere
            "xmlIdSeed": seed,
        }
    )
    if not toolkit.loadData(abc) or toolkit.getPageCount() < 1:
        return 1
    svg = toolkit.renderToSVG(1).strip()
    if "note" not in svg:
        return 1
    with os.fdopen(4, "wb") as image:
        image.write(svg.encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
