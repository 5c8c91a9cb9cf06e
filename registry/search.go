package registry

import (
	"context"
	"slices"
	"strings"
)

// Search is the part of [Catalog] that finds images by what they are, and keeps
// which repositories their users like.
//
// What an actor may not read is neither found nor counted, and asking for it is no
// error. What a manifest says is found from the moment it is stored. What its config
// says (times, platforms, history) follows within a moment: it is read in the
// background, see [FoundManifest.Config].
type Search interface {
	// SearchImages lists images: manifests by their tags. Tags that carry signatures
	// of others (cosign's sha256-….sig and the like) are none. Errors:
	// [ErrParameterInvalid] for what [ImageQuery.Check] refuses.
	SearchImages(ctx context.Context, a Actor, q ImageQuery) (Found[FoundImage], error)

	// SearchRepositories lists repositories that have images. Errors:
	// [ErrParameterInvalid] for what [RepositoryQuery.Check] refuses.
	SearchRepositories(ctx context.Context, a Actor, q RepositoryQuery) (Found[FoundRepository], error)

	// TogglePreference notes that a likes repo in a way, or takes it back if that was
	// noted, and returns which of the two. a must be somebody who may read repo:
	// [ErrUnauthorized] for an anonymous actor, [ErrNameUnknown] if there is no such
	// repository, [ErrTooLarge] for a user with [MaxPreferences].
	TogglePreference(ctx context.Context, a Actor, repo Name, p Preference) (on bool, err error)
}

// Bounds of [Search].
const (
	// MaxSearch is the largest limit of a query.
	MaxSearch = 1000
	// MaxSearchText is how many bytes a text to look for may have.
	MaxSearchText = 256
	// MaxSearchValues is how many values a filter may list for one property.
	MaxSearchValues = 20
	// MaxSearchLayers is how many layers an image can have and be found by them.
	MaxSearchLayers = 128
	// MaxSearchManifest is the largest manifest, in bytes, that an answer has the
	// bytes of, and MaxSearchChildren how many manifests of an index it has.
	MaxSearchManifest = 256 << 10
	MaxSearchChildren = 64
	// MaxSearchReferrers is how many referrers of a manifest an answer has.
	MaxSearchReferrers = 100
	// MaxSearchManifests is how many digests a query may list.
	MaxSearchManifests = 10_000
	// MaxPreferences is how many repositories a user may like in one way.
	MaxPreferences = 10_000
)

// Preference is a way to like a repository.
type Preference uint8

const (
	// Starred repositories are liked in public: others see how many do.
	Starred Preference = 1
	// Bookmarked repositories are somebody's own list.
	Bookmarked Preference = 2
)

// Found is a part of what was found. It may be shorter than was asked for: who
// wants more goes on behind it.
type Found[T any] struct {
	Items []T
	Total int // how many there are in all
}

// SearchFilter leaves out what is not asked for. Values of one property are
// alternatives, properties must all hold.
type SearchFilter struct {
	// OS and Arch are as in image configs, in lower case. Both ask for one platform
	// that has both.
	OS, Arch []string
	Signed   bool // only what somebody has signed, with whatever key
	// Starred and Bookmarked ask for repositories that the actor likes so, or does
	// not. nil: whatever.
	Starred, Bookmarked *bool
}

// SearchOrder is an order of what was found. Ties are in the order of names.
type SearchOrder uint8

// The orders. Later ones come first where something has a time or number.
const (
	ByName SearchOrder = iota
	ByNameDescending
	ByUpdate    // when an image was made
	ByDownloads // of the image, or of all in a repository
	ByStars     // of the repository
	ByRelevance // of repositories, see [Rank]; of images, as ByName
	nOrders
)

// ImageDetail is what to tell of each image besides its name and digest.
type ImageDetail uint8

const (
	// DetailContent asks for manifests, configs and times, also of the manifests of an
	// index.
	DetailContent ImageDetail = 1 << iota
	// DetailPulls asks for how often they were pulled.
	DetailPulls
	// DetailReferrers asks for referrers and signatures.
	DetailReferrers
)

// ImageQuery asks for images. At most one of Content, Manifests, BaseOf and DerivedFrom
// may be set.
type ImageQuery struct {
	Repository Name // of this one only; "": of all
	// Ref is one image, of Repository. A digest needs no tag.
	Ref       Reference
	TagPrefix string
	TagPart   string // anywhere in the tag, whatever the letter case
	// Content is a digest, or the beginning of one: "sha256:" and some hex digits. The
	// image, its config, one of its layers or of its manifests begins so.
	Content string
	// Manifests finds images, and indexes that list them, by digests: at most
	// [MaxSearchManifests].
	Manifests []Digest
	// BaseOf finds images whose layers are these or the first of these, in order;
	// DerivedFrom those whose first layers are these.
	BaseOf, DerivedFrom []Digest
	Except              Digest // not this manifest, nor an index for its sake
	Filter              SearchFilter
	Order               SearchOrder
	Offset, Limit       int // from 0; from 1 to MaxSearch
	Detail              ImageDetail
}

// Check returns [ErrParameterInvalid] for a query that nobody answers.
func (q ImageQuery) Check() error {
	kinds := 0
	for _, set := range []bool{q.Content != "", len(q.Manifests) > 0, len(q.BaseOf) > 0, len(q.DerivedFrom) > 0} {
		if set {
			kinds++
		}
	}
	switch {
	case kinds > 1:
		return ErrParameterInvalid.With("a search is for content, for manifests, for bases or for derived images")
	case q.Ref != (Reference{}) && q.Repository == "":
		return ErrParameterInvalid.With("an image needs a repository")
	case q.Content != "" && !validDigestPrefix(q.Content):
		return ErrParameterInvalid.With("%.80q does not begin a digest: sha256: or sha512: and hex digits do", q.Content)
	case len(q.BaseOf) > MaxSearchLayers || len(q.DerivedFrom) > MaxSearchLayers:
		return ErrParameterInvalid.With("a search is for at most %d layers", MaxSearchLayers)
	case len(q.Manifests) > MaxSearchManifests:
		return ErrParameterInvalid.With("a search is for at most %d manifests", MaxSearchManifests)
	case len(q.TagPrefix) > MaxSearchText || len(q.TagPart) > MaxSearchText:
		return ErrParameterInvalid.With("a search is for a text of at most %d bytes", MaxSearchText)
	}
	for _, d := range slices.Concat(q.BaseOf, q.DerivedFrom, q.Manifests) {
		if _, err := ParseDigest(string(d)); err != nil {
			return err
		}
	}
	return checkSearch(q.Filter, q.Order, q.Offset, q.Limit)
}

func validDigestPrefix(s string) bool {
	alg, hex, ok := strings.Cut(s, ":")
	n := map[string]int{"sha256": 64, "sha512": 128}[alg]
	return ok && n > 0 && len(hex) <= n && strings.Trim(hex, "0123456789abcdef") == ""
}

func checkSearch(f SearchFilter, o SearchOrder, offset, limit int) error {
	switch {
	case offset < 0 || offset > 1<<30:
		return ErrParameterInvalid.With("an offset is from 0 to %d", 1<<30)
	case limit < 1 || limit > MaxSearch:
		return ErrParameterInvalid.With("a limit is from 1 to %d", MaxSearch)
	case o >= nOrders:
		return ErrParameterInvalid.With("there is no order %d", o)
	case len(f.OS) > MaxSearchValues || len(f.Arch) > MaxSearchValues:
		return ErrParameterInvalid.With("a filter has at most %d values for a property", MaxSearchValues)
	}
	for _, v := range slices.Concat(f.OS, f.Arch) {
		if len(v) > 64 {
			return ErrParameterInvalid.With("a value of a filter has at most 64 bytes")
		}
	}
	return nil
}

// FoundManifest is what a search tells of a manifest.
type FoundManifest struct {
	// Manifest has Bytes if the query asks for content and there are at most
	// [MaxSearchManifest].
	Manifest
	ArtifactType string
	// Config is what the image's config says, nil if the manifest has no image's
	// config, or if nobody has read it so far.
	Config *ImageConfig
	// Created is when the image was made, microseconds since 1970: by its config or
	// annotations, or else when it was pushed. Of an index it is the latest of its
	// manifests'.
	Created             int64
	Downloads, LastPull int64 // how often, and when; 0: never
	// Signatures are the tools that somebody signed the manifest with: "cosign",
	// "notation". Nobody has looked whether they are good.
	Signatures []string
	Referrers  []Descriptor // at most MaxSearchReferrers
}

// FoundImage is a manifest by its tag.
type FoundImage struct {
	Repository Name
	Tag        Tag // "" if the image was asked for by digest
	FoundManifest
	// Manifests of an index: those that are here, as many as an answer has, in its
	// order.
	Manifests []FoundManifest
	// Pushed is when the manifest was stored, Tagged when the tag was set, and
	// PushedBy who set it, "" if anonymous. Microseconds since 1970.
	Pushed, Tagged int64
	PushedBy       string
	Deletable      bool // the actor may delete the tag
}

// RepositoryQuery asks for repositories.
type RepositoryQuery struct {
	Name          Name   // only this one
	Text          string // names that have it in them; see [Rank]
	Filter        SearchFilter
	Order         SearchOrder
	Offset, Limit int // from 0; from 1 to MaxSearch
	// NewestImage asks for the newest image of each, and Detail for what to tell of it.
	NewestImage bool
	Detail      ImageDetail
	Content     bool // asks for sizes, platforms and vendors, too
}

// Check returns [ErrParameterInvalid] for a query that nobody answers.
func (q RepositoryQuery) Check() error {
	if len(q.Text) > MaxSearchText {
		return ErrParameterInvalid.With("a search is for a text of at most %d bytes", MaxSearchText)
	}
	return checkSearch(q.Filter, q.Order, q.Offset, q.Limit)
}

// FoundRepository is what a search tells of a repository.
type FoundRepository struct {
	Name                Name
	Updated             int64 // when its newest image was made, microseconds since 1970
	Size                int64 // bytes of all that is in it, each content once
	Platforms           []string
	Vendors             []string
	Newest              *FoundImage
	Downloads, Stars    int64
	Starred, Bookmarked bool // by the actor
	Rank                int  // see [Rank]
}

// Rank says how well a repository's name fits a text: the lower the better, -1 if it
// does not have the text in it. The rules are those of zot's users: the whole name; a
// hit in the last component, the earlier the better; one in the first; the same path
// and a hit in the last component; the beginning of the name; anywhere.
func Rank(name Name, text string) int {
	const step = 1000 // more than a name has bytes
	n, i := string(name), strings.LastIndexByte(string(name), '/')
	last := n[i+1:]
	first, _, _ := strings.Cut(n, "/")
	if n == text {
		return 0
	}
	if at := strings.Index(last, text); at >= 0 {
		return 1 + at
	}
	if at := strings.Index(first, text); at >= 0 {
		return step + at
	}
	if path, end := cutLast(text); path != "" && i >= 0 && n[:i] == path {
		if at := strings.Index(last, end); at >= 0 {
			return 2*step + at
		}
	}
	if strings.HasPrefix(n, text) {
		return 3 * step
	}
	if at := strings.Index(n, text); at >= 0 {
		return 4*step + at
	}
	return -1
}

func cutLast(s string) (path, last string) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return "", s
	}
	return s[:i], s[i+1:]
}
