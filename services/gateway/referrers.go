package gateway

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"

	"github.com/berth-registry/berth/registry"
)

// referrersHead is an index up to its first descriptor.
const referrersHead = `{"schemaVersion":2,"mediaType":"` + registry.TypeIndex + `","manifests":[`

// referrers answers GET /v2/<name>/referrers/<digest>: an image index of the
// manifests whose subject is the digest, empty if nobody knows the digest.
func (g *Gateway) referrers(x *exchange) error {
	p, err := x.paging()
	if err != nil {
		return err
	}
	types := x.params("artifactType")
	filter := ""
	if len(types) == 1 {
		filter = types[0]
	}
	if len(types) > 0 {
		x.set("Oci-Filters-Applied", "artifactType")
	}
	if err := g.fetchReferrers(x); err != nil {
		return doing("listing referrers", err)
	}
	page := registry.Page[registry.Digest]{After: registry.Digest(p.last), Limit: referrersPage}
	body := []byte(referrersHead)
	count, cut := 0, false
	for more := p.n != 0; more && !cut; {
		l, err := g.catalog.Referrers(x.context(), x.actor, x.repo, x.ref.Digest, filter, page)
		if err != nil {
			return doing("listing referrers", err)
		}
		for i, d := range l.Items {
			if len(types) > 1 && !slices.Contains(types, d.ArtifactType) {
				page.After = d.Digest
				continue
			}
			entry, err := json.Marshal(d)
			if err != nil {
				return doing("writing a referrer", err)
			}
			if count > 0 && len(body)+len(entry) > maxReferrers {
				cut = true
				break
			}
			if count > 0 {
				body = append(body, ',')
			}
			body = append(body, entry...)
			count++
			page.After = d.Digest
			if count == p.n {
				cut = l.More || i < len(l.Items)-1
				break
			}
		}
		more = l.More && len(l.Items) > 0 && count != p.n
	}
	if cut {
		x.link("/v2/"+string(x.repo)+"/referrers/"+string(x.ref.Digest), string(page.After), p.n, url.Values{"artifactType": types})
	}
	return x.bytes(http.StatusOK, registry.TypeIndex, append(body, "]}"...))
}
