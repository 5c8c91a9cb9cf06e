package registry

import "context"

// Policy tells what the gates of the config file (extensions.gates) and the keys that
// were uploaded say of an image. It withholds nothing by itself. Its methods may be
// called by many goroutines.
type Policy interface {
	// Judge tells whether whom may pull the manifest d of repo, which a may read. That
	// nobody can be asked is an error.
	Judge(ctx context.Context, a, whom Actor, repo Name, d Digest) (PullVerdict, error)

	// Signatures returns the signatures of the manifest d of repo, which a may read, and
	// of the indexes that list it; none if signatures are not verified here. What it
	// says may be some seconds old.
	Signatures(ctx context.Context, a Actor, repo Name, d Digest) ([]Signature, error)
}

// PullVerdict is what becomes of a pull.
type PullVerdict struct {
	// Denied says why the image may not be pulled, "" if it may.
	Denied string `json:"denied"`
	// Warnings tell what is wrong with an image that may be pulled.
	Warnings []string `json:"warnings"`
	// Steps tell people how that was decided.
	Steps []string `json:"steps"`
}

// Signature is a signature of an image.
type Signature struct {
	Tool     string `json:"tool"`     // [ToolCosign] or [ToolNotation]
	Manifest Digest `json:"manifest"` // that it is in
	Trusted  bool   `json:"trusted"`
	// Author is the key, PEM, or the subject of the certificate that has signed; "" if
	// it is not trusted.
	Author string `json:"author,omitempty"`
	// Problem says why it is not trusted.
	Problem string `json:"problem,omitempty"`
}
