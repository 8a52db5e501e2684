"""List the keys and tokens recognised by shape. Each pattern begins with literals, which are found quickly."""

from collections.abc import Mapping
from typing import Final

LETTERS: Final = 13
"""Minimum run of letters, digits, _ and - in every shape but a private key's."""
ARMOUR: Final = b"-----BEGIN "
"""The beginning of a private key."""
SHAPES: Final[Mapping[str, tuple[str, ...]]] = {
    "private key": (
        r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----",
        r"PuTTY-User-Key-File-\d",
    ),
    "AWS access key": (r"AKIA[A-Z2-7]{16}(?![A-Za-z0-9])", r"ASIA[A-Z2-7]{16}(?![A-Za-z0-9])"),
    "GitHub token": (r"gh[pousr]_[A-Za-z0-9]{36,}+", r"github_pat_[A-Za-z0-9_]{36,}+"),
    "GitLab token": (r"glpat-[A-Za-z0-9_-]{20,}+",),
    "Slack token": (r"xox[abeoprs]-[A-Za-z0-9-]{10,}+",),
    "Google API key": (r"AIza[A-Za-z0-9_-]{35}",),
    "Hugging Face token": (r"hf_[A-Za-z0-9]{34,}+",),
    "API key of a model service": (r"sk-(?:ant-|proj-)?[A-Za-z0-9_-]{40,}+",),
    "Stripe key": (r"sk_live_[A-Za-z0-9]{24,}+", r"rk_live_[A-Za-z0-9]{24,}+"),
    "package registry token": (r"pypi-AgE[A-Za-z0-9_-]{50,}+", r"npm_[A-Za-z0-9]{36,}+"),
    "JSON web token": (r"eyJ(?<![A-Za-z0-9_-]eyJ)[A-Za-z0-9_-]{10,}+\.eyJ[A-Za-z0-9_-]{10,}+\.[A-Za-z0-9_-]{10,}+",),
}
