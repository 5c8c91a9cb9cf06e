// Package gcp logs in to Google's registries with the credentials that Google's own
// programs find: a service account's file, what gcloud has stored, the machine's
// account ("application default credentials").
package gcp

import (
	"context"
	"fmt"
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

// Helper is the [credentials.Helper] for gcp.
func Helper(o credentials.Options) (credentials.Source, error) {
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
