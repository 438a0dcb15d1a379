"""From a weights reference to files on this machine. Nothing here uses the network.

| reference | meaning |
|---|---|
| `package:NAME` | a file shipped in `geco_core/weights` |
| a path | a file, or a folder that holds the files asked for (its links may not lead out of it) |
| `OWNER/NAME`, `hf://OWNER/NAME[@REVISION][/FILE]` | a Hugging Face repository in the local cache |
| `s3://...` | whatever path the caller's resolver gives |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from geco_core.errors import Fatal

Resolver = Callable[[str], str]
_HUB = re.compile(
    r"(?:hf://)?(?P<repo>[\w][\w.-]*/[\w][\w.-]*)(?:@(?P<revision>[\w.-]+))?(?:/(?P<file>.+))?"
)


@dataclass(frozen=True)
class HubReference:
    """A repository of the hub, a revision ("" for its main branch), and a file ("" for any)."""

    repo: str
    revision: str = ""
    file: str = ""


def find_file(
    reference: str,
    names: Sequence[str],
    resolver: Resolver | None = None,
    *,
    published: str = "",
) -> Path:
    """The first of `names` that the reference holds, or the file it names itself.

    Args:
        reference: see the table above.
        names: paths inside a folder or repository, preferred first.
        resolver: `s3://` reference -> local path.
        published: the name to download; the first one when empty.

    Raises:
        Fatal: nothing there; the remedy says how to get it.
    """
    found = find_optional(reference, names, resolver)
    if found is not None:
        return found
    hub = hub_reference(reference)
    wanted = _wanted(hub, names) if hub is not None else list(names)
    get = [published] if published in wanted else wanted[:1]
    raise missing(reference, get, looked_for=wanted)


def missing(reference: str, files: Sequence[str], looked_for: Sequence[str] | None = None) -> Fatal:
    """The error of files that a reference lacks.

    Args:
        reference: as given.
        files: what to get, in the remedy.
        looked_for: all names that would have done; `files` when None.
    """
    looked = ", ".join(files if looked_for is None else looked_for) or "a file"
    hub = hub_reference(reference)
    if hub is not None:
        return Fatal(
            f"{hub.repo} is not in the local cache (looked for {looked})",
            stage="load",
            remedy=f"run `{download_command(hub, files)}` and use that folder as the reference",
        )
    return Fatal(
        f"weights {reference!r} are missing (looked for {looked})",
        stage="load",
        remedy="fix weights.* in the configuration, or download the weights",
    )


def find_optional(
    reference: str, names: Sequence[str], resolver: Resolver | None = None
) -> Path | None:
    """As `find_file`, but None when nothing is there. Raises `Fatal` for unusable references."""
    if not reference:
        raise Fatal(
            "no weights are configured", stage="load", remedy="set weights.* in the configuration"
        )
    if reference.startswith("s3://"):
        if resolver is None:
            raise Fatal(
                f"{reference} can not be read here",
                stage="load",
                remedy="download it and give the local folder",
            )
        reference = resolver(reference)
    if reference.startswith("package:"):
        name = reference.removeprefix("package:")
        return _inside(Path(str(resources.files("geco_core"))) / "weights" / name, names)
    hub = hub_reference(reference)
    if hub is None:
        return _inside(Path(reference).expanduser(), names)
    for name in _wanted(hub, names):
        cached = try_to_load_from_cache(hub.repo, name, revision=hub.revision or None)
        if isinstance(cached, str):
            return Path(cached)
    return None


def hub_reference(reference: str) -> HubReference | None:
    """The reference as one to the hub; None when it is a path that exists or can not be one."""
    explicit = reference.startswith("hf://")
    if not explicit and (reference.startswith((".", "/", "~")) or Path(reference).exists()):
        return None
    match = _HUB.fullmatch(reference)
    if match is None or (match["file"] and not explicit) or reference.startswith("package:"):
        if explicit:
            raise Fatal(
                f"{reference} does not name a repository",
                stage="load",
                remedy="write hf://OWNER/NAME or hf://OWNER/NAME@REVISION/FILE",
            )
        return None
    return HubReference(match["repo"], match["revision"] or "", match["file"] or "")


def download_command(hub: HubReference, files: Sequence[str]) -> str:
    """The command that downloads these files."""
    revision = f" --revision {hub.revision}" if hub.revision else ""
    folder = f"weights/{hub.repo.partition('/')[2]}"
    return f"hf download {hub.repo} {' '.join(files)}{revision} --local-dir {folder}"


def _wanted(hub: HubReference, names: Sequence[str]) -> list[str]:
    return [hub.file] if hub.file else list(names)


def _inside(path: Path, names: Sequence[str]) -> Path | None:
    if path.is_file():
        return path
    found = next((path / name for name in names if (path / name).is_file()), None)
    if found is not None:
        _check_stays(path, found)
    return found


def _check_stays(folder: Path, found: Path) -> None:
    """Refuse a link out of a folder, which may be someone else's; the hub's cache is made of them.

    Raises `Fatal`.
    """
    root, real = folder.resolve(), found.resolve()
    cached = next((p for p in root.parents if p.name.startswith("models--")), root)
    if real.is_relative_to(root) or real.is_relative_to(cached):
        return
    raise Fatal(
        f"{found} is a link to {real}, outside of the folder",
        stage="load",
        remedy="copy the file into the folder, or give the file itself as the reference",
    )
