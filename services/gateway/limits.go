package gateway

import "github.com/berth-registry/berth/registry"

// What a request may bring at most, beyond the limits of package registry.
const (
	// maxURL is the length of the longest request target in bytes. It leaves
	// room for [registry.MaxTagsPerPut] tags of [registry.MaxTag] bytes.
	maxURL = 16 << 10
	// maxHeader bounds the request header. Bearer tokens with many groups in
	// them are what makes honest headers large.
	maxHeader = 64 << 10
	// maxCursor is the length of the longest "last" parameter.
	maxCursor = registry.MaxName
	// maxETags is how many entity tags one condition may list.
	maxETags = 32
	// maxRanges is how many ranges of a blob one request may ask for.
	// containers/image asks for up to 1,024, halves its number as long as the
	// answer is 400, and gives up below 64.
	maxRanges = 1024
)

// What an answer may take at most.
const (
	// maxReferrers is where a referrers list is cut and continued by a Link. One
	// entry that is larger is sent alone.
	maxReferrers = 4 << 20
	// pageSize is how many names are fetched at a time for a complete list.
	pageSize = 1000
	// referrersPage is how many referrers are fetched at a time; each may carry
	// annotations of up to [registry.MaxManifest].
	referrersPage = 100
)
