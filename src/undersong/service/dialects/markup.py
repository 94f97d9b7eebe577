"""XML replies, made by the standard library and legal whatever the names of a catalogue hold."""

import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from starlette.responses import Response

# What XML 1.0 cannot say at all, not even escaped.
ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml(root: Element, *, status: int = 200) -> Response:
    """Make a reply of an element; a character that XML cannot hold becomes U+FFFD."""
    for element in root.iter():
        element.text = element.text and ILLEGAL.sub("\ufffd", element.text)
        for name, value in element.items():
            element.set(name, ILLEGAL.sub("\ufffd", value))
    body = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return Response(body, status, media_type="text/xml")
