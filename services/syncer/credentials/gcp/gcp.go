// Package gcp logs in to Google's registries with the credentials that Google's own
// programs find: a service account's file, what gcloud has stored, the machine's
// account ("application default credentials").
package gcp

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/berth-registry/berth/services/syncer/credentials"
	"github.com/berth-registry/berth/services/syncer/upstream"
)

const (
	// scope allows to read images.
	scope = "https://www.googleapis.com/auth/cloud-platform"
	// user is what Google's registries call who has an access token as password.
	user = "oauth2accesstoken"
)

// hostname is that of a registry of Google's: gcr.io with its regions, and Artifact
// Registry. The token opens much more than a registry, and is for nobody else.
var hostname = regexp.MustCompile(`^(([a-z0-9-]+\.)?gcr\.io|[a-z0-9-]+\.pkg\.dev)$`)

// Helper is the [credentials.Helper] for gcp.
func Helper(o credentials.Options) (credentials.Source, error) {
	if !hostname.MatchString(o.Host) {
		return nil, fmt.Errorf("credentialHelper: gcp is for gcr.io, REGION.gcr.io and REGION-docker.pkg.dev, not for %s", o.Host)
	}
	client, err := o.Client()
	if err != nil {
		return nil, err
	}
	return credentials.Kept(func(ctx context.Context) (*upstream.Credentials, error) {
		ctx = context.WithValue(ctx, oauth2.HTTPClient, client)
		found, err := google.FindDefaultCredentials(ctx, scope)
		if err != nil {
			return nil, fmt.Errorf("looking for Google credentials: %w", err)
		}
		token, err := found.TokenSource.Token()
		if err != nil {
			return nil, fmt.Errorf("asking Google for a token: %w", err)
		}
		until := token.Expiry
		if until.IsZero() {
			until = time.Now().Add(5 * time.Minute)
		}
		return &upstream.Credentials{Username: user, Password: token.AccessToken, Until: until}, nil
	}, o.Now), nil
}
