// Package retention decides which tags and untagged manifests of a repository
// are kept, by policies with zot's meaning. It is a function of what it is told:
// it reads no clock and no database, and changes nothing.
//
//   - The first policy with a glob that matches the repository applies. Without
//     one all tags are kept, and what is untagged is not; nor, unlike zot's, are
//     referrers whose subject has gone.
//   - If the policy has keepTags, a tag belongs to the first entry with a pattern
//     that matches it; one that belongs to none is deleted. An entry's rules are
//     alternatives, and count within the entry. One without rules keeps all.
//   - pulledWithin also keeps what was pushed within that time.
//   - What nothing is known about is kept.
//   - Tags that only name what belongs to another manifest (sha256-….sig and the
//     like) follow that manifest, as referrers do.
package retention
