// Package secretsmanager reads keys from AWS Secrets Manager, with the credentials that
// AWS's own programs find: environment, profile, role of the machine.
package secretsmanager

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/outbound"
	"github.com/berth-registry/berth/services/gateway/auth"
	"github.com/berth-registry/berth/services/gateway/auth/jwt"
)

const (
	// action is the one call of the API that we make. Its request is small enough to be
	// written by hand; the SDK's client for it would be a megabyte of others.
	action = "secretsmanager.GetSecretValue"
	// maxAnswer is what an answer may have: a secret has at most 64 KiB.
	maxAnswer = 256 << 10
)

// region is the form of one; it becomes a part of a host name.
var region = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`)

// Open is the [jwt.OpenSecret] for Secrets Manager. $AWS_ENDPOINT_URL_SECRETS_MANAGER
// or $AWS_ENDPOINT_URL names another server of the API, as for AWS's own programs.
func Open(c *config.AWSSecretsManager, rules outbound.Rules, e auth.Env) (jwt.ReadSecret, error) {
	if !region.MatchString(c.Region) {
		return nil, fmt.Errorf("%q is no region", c.Region)
	}
	endpoint := os.Getenv("AWS_ENDPOINT_URL_SECRETS_MANAGER")
	if endpoint == "" {
		endpoint = os.Getenv("AWS_ENDPOINT_URL")
	}
	if endpoint == "" {
		endpoint = "https://secretsmanager." + c.Region + ".amazonaws.com"
		if strings.HasPrefix(c.Region, "cn-") {
			endpoint += ".cn"
		}
	}
	endpoint = strings.TrimSuffix(endpoint, "/")
	client, err := outbound.New(outbound.Options{
		Purpose: "keys", Rules: rules, Named: []string{endpoint}, PlainHTTP: strings.HasPrefix(endpoint, "http://"),
		Redirects: -1, MaxBody: maxAnswer, Log: e.Log, Metrics: e.Metrics,
	})
	if err != nil {
		return nil, err
	}
	s := &secret{endpoint: endpoint, region: c.Region, name: c.SecretName, client: client, now: time.Now}
	return s.read, nil
}

// secret is a secret of Secrets Manager.
type secret struct {
	endpoint, region, name string
	client                 *outbound.Client
	now                    func() time.Time

	mu   sync.Mutex // guards keys
	keys aws.CredentialsProvider
}

// credentials returns those to sign with. They are kept, and renewed by the provider.
func (s *secret) credentials(ctx context.Context) (aws.Credentials, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		cfg, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithRegion(s.region))
		if err != nil {
			return aws.Credentials{}, fmt.Errorf("looking for AWS credentials: %w", err)
		}
		s.keys = cfg.Credentials
	}
	c, err := s.keys.Retrieve(ctx)
	if err != nil {
		return c, errors.New("there are no AWS credentials in the environment, the profile or the machine's role")
	}
	return c, nil
}

// read calls GetSecretValue (AWS Secrets Manager API Reference).
func (s *secret) read(ctx context.Context) ([]byte, error) {
	keys, err := s.credentials(ctx)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(map[string]string{"SecretId": s.name})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.endpoint+"/", strings.NewReader(string(body)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", action)
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(ctx, keys, req, hex.EncodeToString(sum[:]), "secretsmanager", s.region, s.now()); err != nil {
		return nil, fmt.Errorf("signing a request to Secrets Manager: %w", err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking Secrets Manager: %w", err)
	}
	text, err := outbound.ReadAll(resp, maxAnswer)
	if err != nil {
		return nil, fmt.Errorf("asking Secrets Manager: %w", err)
	}
	var answer struct {
		Type   string `json:"__type"` // of an error
		Text   string `json:"SecretString"`
		Binary []byte `json:"SecretBinary"`
	}
	known := json.Unmarshal(text, &answer) == nil
	switch {
	case resp.StatusCode != http.StatusOK && known && answer.Type != "":
		return nil, fmt.Errorf("Secrets Manager answers with status %d, %.100q", resp.StatusCode, answer.Type)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("Secrets Manager answers with status %d", resp.StatusCode)
	case !known || answer.Text == "" && len(answer.Binary) == 0:
		return nil, errors.New("Secrets Manager answers without a secret")
	case answer.Text == "":
		return answer.Binary, nil
	}
	return []byte(answer.Text), nil
}
