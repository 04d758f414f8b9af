"""Questions that the cluster answers about rights: whose token it is, and who may do what."""

from __future__ import annotations

from typing import Final

import msgspec

from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.kinds import Named


class User(msgspec.Struct, frozen=True):
    """Whose token it is."""

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] | None = ()
    extra: dict[str, list[str]] | None = None


class ReviewStatus(msgspec.Struct, frozen=True):
    """What a review found."""

    authenticated: bool = False
    allowed: bool = False
    user: User = User()


class Review(Named, frozen=True, rename="camel"):
    """A TokenReview or SubjectAccessReview, as far as its answer is read."""

    status: ReviewStatus = ReviewStatus()


TOKENS: Final = Kind(
    "authentication.k8s.io", "v1", "tokenreviews", "TokenReview", Review, namespaced=False
)  # fmt: skip
RIGHTS: Final = Kind(
    "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", Review, namespaced=False
)  # fmt: skip
OWN_RIGHTS: Final = Kind(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", Review, namespaced=False
)  # fmt: skip


async def review(api: Api, kind: Kind[Review], spec: object) -> ReviewStatus:
    """Ask. GpumaxError where the cluster can't be asked, or we may not ask it."""
    body = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {}, "spec": spec}
    return (await api.create(kind, body)).status
