"""Words in the names of images that tell their role in a scan.

The first rule that finds any decides: a word at the end, a word anywhere, the value of
a BIDS entity, an nnU-Net channel, an echo number, a letter after ``dixon``, and last a
word that is written together with others (``t1inphase``, ``dixonIN``).
"""

import re
from typing import NamedTuple

ROLES = {
    "in_phase": "in-phase",
    "out_phase": "out-of-phase",
    "water": "water",
    "fat": "fat",
}
"""Roles of the images of a scan, and what they are called in messages."""

PHASE_PAIR, FAT_PAIR = ("in_phase", "out_phase"), ("water", "fat")

# Words for a role, beside the partner's word in the same convention; case is ignored.
_WORD_PAIRS = {
    PHASE_PAIR: "inphase/outphase in-phase/out-of-phase in_phase/out_of_phase "
    "in/opp ip/op ip/oop inphase/outofphase inphase/oppphase inphase/opposedphase "
    "in-phase/opposed-phase in_phase/opposed_phase in-phase/opp-phase "
    "in_phase/opp_phase in-phase/out-phase in_phase/out_phase inphase/opposed in/out "
    "inp/opp iph/oph",
    FAT_PAIR: "water/fat wat/fat wasser/fett eau/graisse",
}
_LAST_ONLY = {"out"}  # words that mean something else before the end of a name
# As written: nnU-Net's channels, scanners' W and F.
_EXACT_PAIRS = {PHASE_PAIR: "0000/0001", FAT_PAIR: "W/F"}


def _vocabulary(table: dict[tuple[str, str], str]) -> dict[str, tuple[str, str]]:
    """Role and first partner of each word."""
    words: dict[str, tuple[str, str]] = {}
    for (role, other_role), pairs in table.items():
        for word, other in (pair.split("/") for pair in pairs.split()):
            words.setdefault(word, (role, other))
            words.setdefault(other, (other_role, word))
    return words


WORDS, _EXACT = _vocabulary(_WORD_PAIRS), _vocabulary(_EXACT_PAIRS)

_MARKS = r"-_. ()\[\]{},+="
SEPARATORS = _MARKS.replace("\\", "")
_START, _END = rf"(?<![^{_MARKS}/])", rf"(?![^{_MARKS}/])"


def _any_of(words: list[str]) -> str:
    """A pattern of words, the longest first; their parts may be apart by any mark."""
    longest_first = sorted(words, key=len, reverse=True)
    return "|".join(re.sub("[-_]", "[-_. ]", word) for word in longest_first)


_LAST_WORD = f"(?i:{_any_of([*WORDS])})"
_WORD = f"(?i:{_any_of([w for w in WORDS if w not in _LAST_ONLY])})"
_LONG_WORD = f"(?i:{_any_of([w for w in WORDS if 'phase' in w or w == 'opposed'])})"
_ENTITY = "(?:(?:acq|rec|desc|part)-)?"  # a BIDS entity whose value is the role
_COPY = "(?P<copy>[ab]?)"  # dcm2niix tells equal names apart: x_in, x_ina
SERIES = r"(?P<mark>(?i:ser(?:ies)?[-_ ]?|se?)?)(?P<number>\d{1,4})(?:a\d{3,4})?"
"""The number of a series, as converters write it at the end of a name."""
_BEFORE_SERIES = r"(?=[-_. ](?i:ser(?:ies)?[-_ ]?|se?)?\d{1,4}(?:a\d{3,4})?$)"
_DIXON = r"(?i:dixon|vibe|flex|ideal|lava)"
_AFTER_DIXON = (
    f"(?:{'|'.join(f'(?<={w})' for w in 'dixon vibe flex ideal lava'.split())})"
)

_CHANNEL = re.compile(r"(?<=_)(?P<word>000[0-3])(?P<copy>)$")
_RULES = (
    re.compile(rf"{_START}{_ENTITY}(?P<word>{_LAST_WORD}|[WF])(?:_e\d+)?{_COPY}$"),
    re.compile(rf"{_START}{_ENTITY}(?P<word>{_LAST_WORD}|[WF]){_COPY}{_BEFORE_SERIES}"),
    re.compile(rf"{_START}{_ENTITY}(?P<word>{_WORD}|^[WF](?=/))(?P<copy>){_END}"),
    re.compile(
        rf"{_START}(?:acq|rec|desc|part)-(?P<word>{_LAST_WORD}|[WwFf])(?P<copy>)(?=_)"
    ),
    _CHANNEL,
    re.compile(
        rf"{_START}(?P<word>(?i:e|te)\d+(?=[ab]?$)|(?i:echo)[-_ ]?\d+){_COPY}{_END}"
    ),
    re.compile(rf"{_START}(?P<word>[WwFf])(?P<copy>){_END}"),
)
_LETTER = _RULES[-1]  # only after a word for the sequence: F may mean female
_GLUED = (
    re.compile(rf"(?i:{_AFTER_DIXON})(?P<word>{_LAST_WORD}|[WF])(?P<copy>){_END}"),
    re.compile(rf"(?P<word>{_LONG_WORD})(?P<copy>){_END}"),
    re.compile(
        rf"(?<=[A-Za-z0-9])(?P<word>(?i:in|opp|water|fat)|[WF])(?P<copy>)"
        rf"(?:$|{_BEFORE_SERIES})"
    ),
)
ROLE_FOLDER = re.compile(f"{_WORD}|[WF]")
_NO_IMAGE = re.compile(
    r"[-_. ]?(?i:sat|sup|frac|perc|excit|free|shift|quant|content|index|pdff|t2|r2"
    r"|[fw][fp](?![a-z]))"
)
"""After "water" or "fat": what is done about it or computed of it, no image of it."""


class RoleWords(NamedTuple):
    """What the first rule found in a name.

    Attributes:
        matches: of the words, with groups "word" and "copy"; empty if none.
        is_channel: they are numbers of nnU-Net's channels.
        is_glued: they are written together with others, which alone tells little.
    """

    matches: list[re.Match[str]]
    is_channel: bool = False
    is_glued: bool = False

    @property
    def roles(self) -> set[str]:
        """Of the words; "" for a mere number."""
        return {role_of(match) for match in self.matches}


def role_words(label: str) -> RoleWords:
    """The words for a role in a name, by the first rule that finds any."""
    sequence = re.search(_DIXON, label)
    for rule in _RULES:
        found = [m for m in rule.finditer(label) if _is_image(m)]
        if rule is _LETTER:
            found = [m for m in found if sequence and m.start() > sequence.start()]
        if found:
            return RoleWords(found, is_channel=rule is _CHANNEL)
    for rule in _GLUED:
        found = [*rule.finditer(label)]
        if found and (sequence or rule is _GLUED[1]):
            return RoleWords(found[-1:], is_glued=True)
    return RoleWords([])


def _is_image(match: re.Match[str]) -> bool:
    return role_of(match) not in FAT_PAIR or not _NO_IMAGE.match(
        match.string, match.end()
    )


def role_of(match: re.Match[str]) -> str:
    """The role a word stands for; nothing for a mere number."""
    return _meaning(match["word"])[0]


def partner_of(match: re.Match[str]) -> str:
    """The partner's word, in the same convention."""
    word, partner = match["word"], _meaning(match["word"])[1]
    mark = re.search("[. ]", word)
    if mark:
        partner = re.sub("[-_]", mark.group(), partner)
    return partner.upper() if word.isupper() else partner.lower()


def _meaning(word: str) -> tuple[str, str]:
    low = re.sub("[. ]", "_", word.lower())
    mixed = WORDS.get(re.sub("[-_]", "_", low)) or WORDS.get(re.sub("[-_]", "", low))
    exact = _EXACT.get(word) or _EXACT.get(word.upper())
    return exact or WORDS.get(low) or mixed or ("", "*")
