"""Files that are published on the Hugging Face hub: found on this machine, or downloaded, or refused at once."""

import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import torch

_PATIENCE = 5.0  # seconds for a server to answer at all


def hub_file(repository: str, names: Sequence[str]) -> Path:
    """Return the first of several files that a repository of the hub has.

    Looked for in `place_for` it, then in the hub's own cache, then on the hub.

    Args:
        repository: owner/model, or owner/model@revision.
        names: of the files, the best first.

    Raises:
        FileNotFoundError: none of them is on this machine, and the hub has none, or cannot be reached; says where to
            put the first.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    owner_and_model, _, revision = repository.partition("@")
    for name in names:
        put = place_for(repository, name)
        if put.is_file():
            return put
        cached = try_to_load_from_cache(owner_and_model, name, revision=revision or None)
        if isinstance(cached, str):
            return Path(cached)
    page = f"{constants.ENDPOINT}/{owner_and_model}/resolve/{revision or 'main'}/{names[0]}"
    problem = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else unreachable(constants.ENDPOINT)
    for name in names if problem is None else ():
        try:
            return Path(hf_hub_download(owner_and_model, name, revision=revision or None))
        except LocalEntryNotFoundError as error:
            problem = str(error)
        except EntryNotFoundError:
            problem = f"the hub has no {' or '.join(names)} of it"
        except (HfHubHTTPError, OSError, ValueError) as error:
            problem = str(error).strip().splitlines()[0]
    raise FileNotFoundError(
        f"{names[0]} of {repository} is not on this machine, and not to be had ({problem}). Fetch {page} elsewhere and "
        f"put it at {place_for(repository, names[0])}"
    )


def place_for(repository: str, name: str) -> Path:
    """Return where a file of a repository may be put by hand: below torch's folder of checkpoints (TORCH_HOME)."""
    return Path(torch.hub.get_dir()) / "checkpoints" / repository.replace("/", "--") / name


def unreachable(url: str) -> str | None:
    """Say why a server does not answer within seconds; None where it does, whatever it says. Proxies are honoured."""
    answers: list[str | None] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_PATIENCE).close()
            answers.append(None)
        except urllib.error.HTTPError:
            answers.append(None)
        except Exception as error:  # of sockets, of names, of what is no answer
            answers.append(str(getattr(error, "reason", error)))

    # A look-up of a name has no time limit of its own.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_PATIENCE)
    return answers[0] if answers else f"{url} does not answer within {_PATIENCE:g} seconds"
