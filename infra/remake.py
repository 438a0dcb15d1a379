"""Giving up chosen shards: for parts whose rows can not be trusted, which no repair can mend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from geco_core.errors import ConfigError
from infra.commit import discard_shard, done_key, part_key, remove_leftover
from infra.plan import Plan
from infra.repair import Act, Action, carried_out
from infra.storage import Storage
from infra.survey_keys import survey_keys


def remake_shards(
    storage: Storage, plan: Plan, shards: Sequence[int], *, dry_run: bool = False
) -> Iterator[Action]:
    """Remove everything a run holds of these shards; `geco generate` then makes them again.

    Args:
        storage: of the run folder.
        plan: pinned in its `run.json`.
        shards: indices.
        dry_run: yield the actions without doing them.

    Raises:
        ConfigError: the plan has no such shard.
        Retryable, Fatal: the store failed; the same call goes on.
    """
    for shard in shards:
        if not 0 <= shard < plan.shards:
            raise ConfigError(
                f"there is no shard {shard}",
                remedy=f"the run has shards 0 to {plan.shards - 1}; `geco verify` names them",
            )
    keys = survey_keys(storage)
    for shard in sorted(set(shards)):
        for generation in sorted(keys.parts.get(shard, set()) | keys.done.get(shard, set())):
            action = Action(
                Act.WITHDRAW_DONE,
                f"{done_key(shard, generation)} and {part_key(shard, generation)}: "
                "to be made again",
                shard,
                lambda shard=shard, generation=generation: discard_shard(
                    storage, shard, generation
                ),
            )
            yield carried_out(action, dry_run=dry_run)
        partials = [
            key for (owner, _), held in keys.partials.items() if owner == shard for key in held
        ]
        for key in sorted(partials):
            action = Action(
                Act.REMOVE_LEFTOVER,
                f"{key}: to be made again",
                shard,
                lambda key=key: remove_leftover(storage, key),
            )
            yield carried_out(action, dry_run=dry_run)
