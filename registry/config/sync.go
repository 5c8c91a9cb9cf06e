package config

import "time"

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
}

func (r *SyncRegistry) setDefaults() {
	r.TLSVerify = true
	r.SyncLegacyCosignTags = true
	r.SyncTimeout = 3 * time.Hour
	r.ResponseHeaderTimeout = 30 * time.Second
	r.ReqConcurrent = 3
	r.Stream = true
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
