package metadata

import (
	"context"
	"fmt"

	"github.com/berth-registry/berth/registry"
)

// Taken is what the take-over of a repository did.
type Taken struct {
	Repo      registry.Name
	Manifests int   // new in the catalog
	Tags      int   // set
	Blobs     int   // that manifests need and the layout has
	Bytes     int64 // of these blobs
	Problems  int
}

// Adopt takes over all repositories that the blobstore finds in the layout of
// another registry, and tells done of each. It is for a store that serves nobody.
// An interrupted run is continued by the next one.
func (c *Catalog) Adopt(ctx context.Context, blobs LayoutBlobs, done func(Taken)) error {
	seen := make(map[registry.Name]bool)
	err := c.eachLayout(ctx, blobs, func(repo registry.Name, _ registry.Pool) error {
		seen[repo] = true
		taken, err := c.takeOver(ctx, blobs, repo)
		if err != nil {
			return err
		}
		done(taken)
		return nil
	})
	if err != nil {
		return err
	}
	return c.giveUpGone(ctx, seen)
}

// giveUpGone ends the take-over of repositories that was interrupted and can't go
// on, because their directories are gone: nothing of them would ever be collected.
// Should a directory come back it is taken over anew.
func (c *Catalog) giveUpGone(ctx context.Context, seen map[registry.Name]bool) error {
	for after, n := registry.Name(""), fsckPage; n == fsckPage; {
		page, err := c.adoptionPage(ctx, after, fsckPage)
		if err != nil {
			return err
		}
		n = len(page)
		for _, a := range page {
			if after = a.repo; a.state != adoptionBegun || seen[a.repo] {
				continue
			}
			a.state, a.stamp, a.hash = adoptionDone, "", ""
			a.problems.add("its directory was gone before it was taken over to its end")
			if err := c.saveAdoption(ctx, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// Adoption is what the catalog and the pools have of another registry's content.
type Adoption struct {
	Repositories []AdoptedRepository `json:"repositories"`
	// What lies in files of the other registry, by copies in use.
	ForeignBlobs int64 `json:"foreignBlobs"`
	ForeignBytes int64 `json:"foreignBytes"`
}

// AdoptedRepository is a repository of another registry.
type AdoptedRepository struct {
	Repo  registry.Name `json:"repository"`
	Pool  registry.Pool `json:"pool"`
	State AdoptionState `json:"state"`
	// Problems are the first of ProblemCount reasons why something was not taken
	// over.
	Problems     []string `json:"problems,omitempty"`
	ProblemCount int      `json:"problemCount"`
}

// AdoptionState says how far a repository is.
type AdoptionState string

// The states of a repository.
const (
	AdoptionWaits    AdoptionState = "waits"    // it was never taken over
	AdoptionBegun    AdoptionState = "begun"    // it was interrupted
	AdoptionChanged  AdoptionState = "changed"  // its index is another since
	AdoptionTaken    AdoptionState = "taken"    // it was taken over; its files are used in place
	AdoptionGone     AdoptionState = "gone"     // it was taken over; its directory is not there any more
	AdoptionFinishes AdoptionState = "finishes" // its files are being removed
)

const sqlCopies = `
	SELECT pool, digest, size, locator FROM blobs
	WHERE (pool, digest) > ($1, $2) ORDER BY pool, digest LIMIT $3`

// eachForeign calls f for each blob whose copy in use lies in a layout.
func (c *Catalog) eachForeign(ctx context.Context, f func(blobRow) error) error {
	last := blobRow{packed: []byte{}}
	for {
		page, err := c.copiesPage(ctx, last)
		if err != nil {
			return err
		}
		for _, b := range page {
			if _, ok := b.Locator.Layout(); ok {
				if err := f(b); err != nil {
					return err
				}
			}
		}
		if len(page) < fsckPage {
			return nil
		}
		last = page[len(page)-1]
	}
}

func (c *Catalog) copiesPage(ctx context.Context, after blobRow) ([]blobRow, error) {
	rows, err := c.db.Query(ctx, sqlCopies, string(after.Pool), after.packed, fsckPage)
	if err != nil {
		return nil, fmt.Errorf("reading where blobs are: %w", err)
	}
	defer rows.Close()
	var page []blobRow
	for rows.Next() {
		var b blobRow
		if err := rows.Scan(&b.Pool, &b.packed, &b.Size, &b.Locator); err != nil {
			return nil, fmt.Errorf("reading where blobs are: %w", err)
		}
		if b.Digest, err = unpack(b.packed); err != nil {
			return nil, err
		}
		page = append(page, b)
	}
	return page, rows.Err()
}

// Adoption returns what there is of another registry.
func (c *Catalog) Adoption(ctx context.Context, blobs LayoutBlobs) (Adoption, error) {
	var all Adoption
	seen := make(map[registry.Name]bool)
	err := c.eachLayout(ctx, blobs, func(repo registry.Name, p registry.Pool) error {
		seen[repo] = true
		a, err := c.readAdoption(ctx, repo)
		if err != nil {
			return err
		}
		stamp, err := blobs.LayoutStamp(ctx, p, repo)
		if err != nil {
			return ignoreGone(err)
		}
		all.Repositories = append(all.Repositories, a.public(stamp))
		return nil
	})
	if err != nil {
		return all, err
	}
	for after := registry.Name(""); ; {
		page, err := c.adoptionPage(ctx, after, fsckPage)
		if err != nil {
			return all, err
		}
		for _, a := range page {
			if after = a.repo; !seen[a.repo] {
				all.Repositories = append(all.Repositories, a.public(""))
			}
		}
		if len(page) < fsckPage {
			break
		}
	}
	return all, c.eachForeign(ctx, func(b blobRow) error {
		all.ForeignBlobs++
		all.ForeignBytes += b.Size
		return nil
	})
}

// public returns a as others see it; the layout's stamp is "" if it is not there.
func (a adoption) public(stamp string) AdoptedRepository {
	r := AdoptedRepository{Repo: a.repo, Pool: a.pool, Problems: a.list, ProblemCount: a.count}
	switch {
	case a.state == adoptionNone:
		r.State = AdoptionWaits
	case a.state == adoptionRemoving:
		r.State = AdoptionFinishes
	case stamp == "":
		r.State = AdoptionGone
	case a.state == adoptionBegun:
		r.State = AdoptionBegun
	case a.stamp != stamp:
		r.State = AdoptionChanged
	default:
		r.State = AdoptionTaken
	}
	return r
}
