"""`export_version`: a version as an archive in the export directory, with its receipt.

Anybody may: whoever can read the registry, which is everyone, can make the same archive; that holds for
versions on probation too. Nothing is locked while files are read; what changes meanwhile is found, since
every byte is checked against the manifest. Two equal requests write the same bytes under the same name.
"""

from typing import Literal

from gobblerd.actions.action import Context, OfVersion
from gobblerd.archive.exports import check_export, explained
from gobblerd.archive.receipt import Links
from gobblerd.domain.messages import Outcome

_THREADS = 1  # the daemon has other work


class ExportVersion(OfVersion):
    """Writes a version as one archive into the export directory, with a receipt beside it."""

    name = "export_version"
    is_long = True

    format: Literal["tar.zst", "tar", "tar.gz", "tar.xz", "tar.bz2", "zip"] | None = None
    links: Links | None = None

    def perform(self, context: Context) -> Outcome:
        """Pack, verify, and give the archive its name once it is whole."""
        from gobblerd.archive.create import create_archive  # noqa: PLC0415 - the daemon's start needs none
        from gobblerd.archive.version_plan import Version  # noqa: PLC0415 - as above

        policy = context.policy.exports
        with context.transaction() as transaction, context.registry.reading(self.place, transaction) as place:
            manifest = place.metadata.manifest(self.place)  # there is one, and no dead writer's work waits
        check_export(policy, sum(entry.size for entry in manifest.values()))
        registry = context.registry.root
        version = Version(registry, self.project, self.asset, self.version, tuple(context.policy.whitelist))
        try:
            made = create_archive(
                version,
                policy.directory,
                format=self.format,
                links="preserve" if self.links == "preserve" else "files",
                bundle_links=self.links == "bundle",
                name_template=policy.name_template,
                threads=_THREADS,
                overwrite=True,
                progress=lambda done, total, _: context.progress(done, total),
            )
        except OSError as error:
            raise explained(error) from error
        answer = {
            "archive": made.path,
            "receipt": made.receipt_path,
            "size": made.size,
            "sha256": made.sha256,
        }
        return Outcome(answer)
