package config

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// Sync mirrors other registries.
type Sync struct {
	Feature
	CredentialsFile string         `json:"credentialsFile"` // JSON: host → username, password
	DownloadDir     string         `json:"downloadDir"`
	Registries      []SyncRegistry `json:"registries"`
}

// SyncRegistry is one upstream, the first of its URLs, and its mirrors.
type SyncRegistry struct {
	URLs                   []string                `json:"urls"`
	PollInterval           time.Duration           `json:"pollInterval"`
	OnDemand               bool                    `json:"onDemand"`
	ManifestCheckInterval  time.Duration           `json:"manifestCheckInterval"`
	Content                []SyncContent           `json:"content"`
	TLSVerify              bool                    `json:"tlsVerify"`
	CertDir                string                  `json:"certDir"`
	MaxRetries             int                     `json:"maxRetries"`
	RetryDelay             time.Duration           `json:"retryDelay"`
	MaxRetryDelay          time.Duration           `json:"maxRetryDelay"` // 0: RetryDelay
	OnlySigned             bool                    `json:"onlySigned"`
	SyncLegacyCosignTags   bool                    `json:"syncLegacyCosignTags"`
	PreserveDigest         bool                    `json:"preserveDigest"`
	Credentials            *SyncCredentials        `json:"credentials"`
	CredentialHelper       string                  `json:"credentialHelper"` // ecr, gcp or oauth2
	OAuth2CredentialHelper *OAuth2CredentialHelper `json:"oauth2CredentialHelper"`
	SyncTimeout            time.Duration           `json:"syncTimeout"`
	ResponseHeaderTimeout  time.Duration           `json:"responseHeaderTimeout"`
	ReqConcurrent          int                     `json:"reqConcurrent"` // per host
	ReqPerSec              float64                 `json:"reqPerSec"`     // 0: no limit
	DisableHTTP2           bool                    `json:"disableHTTP2"`
	MaxIdleConnsPerHost    int                     `json:"maxIdleConnsPerHost"` // 0: 2, or ReqConcurrent if DisableHTTP2
	Stream                 bool                    `json:"stream"`
	Platforms              []string                `json:"platforms"`
	DownloadRate           string                  `json:"downloadRate"`
	LocalPushes            string                  `json:"localPushes"` // allow or deny
}

// Rate returns DownloadRate in bytes per second, 0 if there is no limit. A suffix of
// K, M or G, with or without a B, stands for powers of 1,000; Ki, Mi and Gi for those
// of 1,024.
func (r *SyncRegistry) Rate() (int64, error) {
	text := strings.TrimSuffix(strings.TrimSpace(r.DownloadRate), "/s")
	if text == "" {
		return 0, nil
	}
	i := strings.LastIndexAny(text, "0123456789.") + 1
	n, err := strconv.ParseFloat(text[:i], 64)
	unit := map[string]float64{"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}[strings.TrimSuffix(strings.ToLower(strings.TrimSpace(text[i:])), "b")]
	if err != nil || unit == 0 || n*unit < 1 || n*unit > 1e15 {
		return 0, errors.New("downloadRate: must be bytes per second, such as 2MB")
	}
	return int64(n * unit), nil
}

func (r *SyncRegistry) setDefaults() {
	r.TLSVerify = true
	r.SyncLegacyCosignTags = true
	r.SyncTimeout = 3 * time.Hour
	r.ResponseHeaderTimeout = 30 * time.Second
	r.ReqConcurrent = 3
	r.Stream = true
	r.LocalPushes = "allow"
}

// SyncContent selects upstream repositories and says what they are called here.
type SyncContent struct {
	Prefix      string    `json:"prefix"` // a glob
	Destination string    `json:"destination"`
	StripPrefix bool      `json:"stripPrefix"`
	Tags        *SyncTags `json:"tags"`
}

// SyncTags selects the tags that periodic mirroring copies.
type SyncTags struct {
	Regex        string `json:"regex"`
	ExcludeRegex string `json:"excludeRegex"`
	Semver       bool   `json:"semver"`
}

// SyncCredentials is a user of the upstream registry.
type SyncCredentials struct {
	Username     string `json:"username"`
	Password     Secret `json:"password"`
	PasswordFile string `json:"passwordFile"`
}

// ReadPassword returns the password, from the file if one is given.
func (c SyncCredentials) ReadPassword() (Secret, error) {
	return ReadSecret(c.Password, c.PasswordFile)
}

// OAuth2CredentialHelper exchanges an assertion for an upstream token (RFC 7523,
// RFC 8693).
type OAuth2CredentialHelper struct {
	TokenURL           string   `json:"tokenURL"`
	AssertionFile      string   `json:"assertionFile"`
	SigningFile        string   `json:"signingFile"`
	GrantType          string   `json:"grantType"`
	ClientID           string   `json:"clientID"`
	ClientSecretFile   string   `json:"clientSecretFile"`
	Scopes             []string `json:"scopes"`
	Username           string   `json:"username"`
	Audience           string   `json:"audience"`
	SubjectTokenType   string   `json:"subjectTokenType"`
	RequestedTokenType string   `json:"requestedTokenType"`
}

func (h *OAuth2CredentialHelper) setDefaults() {
	h.GrantType = "client_credentials"
	h.Username = "<token>"
}
