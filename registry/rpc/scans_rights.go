package rpc

import (
	"context"

	"github.com/berth-registry/berth/registry"
)

// ScanRights is what [ServeScans] asks about clients that are no services.
type ScanRights interface {
	registry.Access
	registry.Manifests
}

// cleared reports whether the peer is a service that has asked the catalog before,
// for its users or for itself, or the owner of the store, who need not.
func cleared(ctx context.Context) bool {
	if ctx.Value(owner{}) != nil || speaks(ctx) {
		return true
	}
	who, _ := peerOf(ctx)
	return who.roles&Metadata != 0 // its gates ask about what is pulled
}

// admit returns nil if the peer may use what names no repository. That has no
// actor: everybody whom [cleared] does not know must be an administrator of the
// store, by the rules of the moment.
func (s *scansServer) admit(ctx context.Context) error {
	if cleared(ctx) {
		return nil
	}
	a := actorOf(ctx, nil)
	if s.rights == nil {
		return a.Refusal("")
	}
	may, err := s.rights.Allowed(ctx, a, "", registry.ActAdmin)
	if err == nil && !may.Has(registry.ActAdmin) {
		err = a.Refusal("only administrators (http.accessControl.adminPolicy) look after the scanner, or ask about images without a repository")
	}
	return err
}

// reads returns nil if the peer may ask about the image d of repo: it may read it
// there, and it is there. Otherwise a digest would be enough to learn what is in an
// image of somebody else.
func (s *scansServer) reads(ctx context.Context, repo registry.Name, d registry.Digest) error {
	if cleared(ctx) {
		return nil
	}
	a := actorOf(ctx, nil)
	if s.rights == nil {
		return a.Refusal("")
	}
	_, err := s.rights.Manifest(ctx, a, repo, registry.ManifestQuery{Ref: registry.Reference{Digest: d}, NoBytes: true})
	return err
}
