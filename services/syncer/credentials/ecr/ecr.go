// Package ecr logs in to Amazon's registries (Elastic Container Registry), with the
// credentials that AWS's own programs find: environment, profile, role of the machine.
package ecr

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"

	"github.com/berth-registry/berth/services/syncer/credentials"
	"github.com/berth-registry/berth/services/syncer/upstream"
)

// hostname is that of a private registry: account, "-fips" or nothing, region, and
// ".cn" or nothing.
var hostname = regexp.MustCompile(`^[0-9]{12}\.dkr\.ecr(-fips)?\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?$`)

const (
	// action is the one call of the API that we make. Its request is small enough to
	// be written by hand; the SDK's client for it would be a megabyte of others.
	action    = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
	maxAnswer = 1 << 20
)

// Helper is the [credentials.Helper] for ecr. $AWS_ENDPOINT_URL_ECR names another
// server of the API, as for AWS's own programs.
func Helper(o credentials.Options) (credentials.Source, error) {
	m := hostname.FindStringSubmatch(o.Host)
	endpoint := os.Getenv("AWS_ENDPOINT_URL_ECR")
	if m == nil && endpoint == "" {
		return nil, fmt.Errorf("credentialHelper: ecr is for hosts like 123456789012.dkr.ecr.REGION.amazonaws.com, not for %s", o.Host)
	}
	region := os.Getenv("AWS_REGION")
	if m != nil {
		region = m[2]
		if endpoint == "" {
			endpoint = "https://api.ecr" + m[1] + "." + region + ".amazonaws.com" + m[3]
			if m[1] != "" {
				endpoint = "https://ecr-fips." + region + ".amazonaws.com"
			}
		}
	}
	client, err := o.Client(endpoint)
	if err != nil {
		return nil, err
	}
	now := o.Now
	if now == nil {
		now = time.Now
	}
	return credentials.Kept(func(ctx context.Context) (*upstream.Credentials, error) {
		return ask(ctx, client, endpoint, region, now())
	}, now), nil
}

// ask calls GetAuthorizationToken.
func ask(ctx context.Context, client *http.Client, endpoint, region string, now time.Time) (*upstream.Credentials, error) {
	cfg, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithRegion(region))
	if err != nil {
		return nil, fmt.Errorf("looking for AWS credentials: %w", err)
	}
	keys, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, errors.New("there are no AWS credentials in the environment, the profile or the machine's role")
	}
	const body = "{}"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint+"/", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", action)
	sum := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(ctx, keys, req, hex.EncodeToString(sum[:]), "ecr", region, now); err != nil {
		return nil, fmt.Errorf("signing a request to ECR: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking ECR for credentials: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ECR answers a request for credentials with status %d", resp.StatusCode)
	}
	var answer struct {
		AuthorizationData []struct {
			AuthorizationToken string  `json:"authorizationToken"`
			ExpiresAt          float64 `json:"expiresAt"` // seconds since 1970
		} `json:"authorizationData"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&answer); err != nil || len(answer.AuthorizationData) == 0 {
		return nil, errors.New("ECR answers no credentials")
	}
	data := answer.AuthorizationData[0]
	text, err := base64.StdEncoding.DecodeString(data.AuthorizationToken)
	user, password, ok := strings.Cut(string(text), ":")
	if err != nil || !ok {
		return nil, errors.New("ECR answers no credentials")
	}
	return &upstream.Credentials{Username: user, Password: password, Until: time.Unix(int64(data.ExpiresAt), 0)}, nil
}
