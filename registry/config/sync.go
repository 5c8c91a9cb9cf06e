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
	Advertise       string         `json:"advertise"` // host:port
	Notices         *SyncNotices   `json:"notices"`
	Registries      []SyncRegistry `json:"registries"`
}

// SyncNotices is where other registries tell of pushes.
type SyncNotices struct {
	Listen string `json:"listen"` // host:port
	Cert   string `json:"cert"`   // PEM; "": without TLS
	Key    string `json:"key"`
}

// SyncNotice says how the upstream of a rule tells of pushes.
type SyncNotice struct {
	Secret     Secret `json:"secret"` // that signs them
	SecretFile string `json:"secretFile"`
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
	UploadRate             string                  `json:"uploadRate"`
	Bandwidth              []SyncWindow            `json:"bandwidth"`
	MonthlyBytes           string                  `json:"monthlyBytes"`
	MaxBlobSize            string                  `json:"maxBlobSize"`
	LocalPushes            string                  `json:"localPushes"` // allow, deny or forward
	TagMoves               string                  `json:"tagMoves"`    // any, forward or versions
	Forward                SyncForward             `json:"forward"`
	Prune                  *SyncPrune              `json:"prune"`
	Notices                *SyncNotice             `json:"notices"`
}

// SyncPrune removes mirrored tags that are gone upstream.
type SyncPrune struct {
	Feature
	DryRun bool          `json:"dryRun"`
	Grace  time.Duration `json:"grace"`
}

func (p *SyncPrune) setDefaults() { p.Grace = 24 * time.Hour }

// SyncForward says how pushes are passed on to the registry.
type SyncForward struct {
	Conflict string        `json:"conflict"` // overwrite or keep
	Deletes  bool          `json:"deletes"`
	Interval time.Duration `json:"interval"` // 0: never
}

// SyncWindow is a part of each week in which a rule has other limits.
type SyncWindow struct {
	Days   string `json:"days"` // mon-fri, sat,sun; "": every day
	From   string `json:"from"` // 15:04, local time
	To     string `json:"to"`
	Rate   string `json:"rate"` // "": no limit
	Upload string `json:"uploadRate"`
	Copies bool   `json:"copies"`
}

func (w *SyncWindow) setDefaults() { w.Copies = true }

// Rate returns DownloadRate in bytes per second, 0 if there is no limit. A suffix of
// K, M or G, with or without a B, stands for powers of 1,000; Ki, Mi and Gi for those
// of 1,024.
func (r *SyncRegistry) Rate() (int64, error) { return parseRate("downloadRate", r.DownloadRate) }

// Upload returns UploadRate in bytes per second, with the suffixes of Rate; 0 if there
// is no limit.
func (r *SyncRegistry) Upload() (int64, error) { return parseRate("uploadRate", r.UploadRate) }

func parseRate(key, text string) (int64, error) {
	n, err := parseBytes(strings.TrimSuffix(strings.TrimSpace(text), "/s"))
	if err != nil {
		return 0, errors.New(key + ": must be bytes per second, such as 2MB")
	}
	return n, nil
}

// Monthly returns MonthlyBytes, with the suffixes of Rate; 0 if there is no limit.
func (r *SyncRegistry) Monthly() (int64, error) {
	n, err := parseBytes(r.MonthlyBytes)
	if err != nil {
		return 0, errors.New("monthlyBytes: must be bytes, such as 50GB")
	}
	return n, nil
}

// MaxBlob returns MaxBlobSize, with the suffixes of Rate; 0 if there is no limit.
func (r *SyncRegistry) MaxBlob() (int64, error) {
	n, err := parseBytes(r.MaxBlobSize)
	if err != nil {
		return 0, errors.New("maxBlobSize: must be bytes, such as 5GB")
	}
	return n, nil
}

// Limit returns Rate in bytes per second, 0 if there is no limit.
func (w *SyncWindow) Limit() (int64, error) { return parseRate("rate", w.Rate) }

// UploadLimit returns Upload in bytes per second, 0 if there is no limit.
func (w *SyncWindow) UploadLimit() (int64, error) { return parseRate("uploadRate", w.Upload) }

func parseBytes(text string) (int64, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return 0, nil
	}
	i := strings.LastIndexAny(text, "0123456789.") + 1
	n, err := strconv.ParseFloat(text[:i], 64)
	unit := map[string]float64{
		"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40,
	}[strings.TrimSuffix(strings.ToLower(strings.TrimSpace(text[i:])), "b")]
	if err != nil || unit == 0 || !(n*unit >= 1 && n*unit <= 1e15) {
		return 0, errors.New("must be bytes, such as 2MB")
	}
	return int64(n * unit), nil
}

var weekdays = map[string]time.Weekday{"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}

// Weekdays returns the days of Days, by [time.Weekday].
func (w *SyncWindow) Weekdays() (days [7]bool, err error) {
	text := strings.ToLower(strings.ReplaceAll(w.Days, " ", ""))
	if text == "" {
		text = "mon-sun"
	}
	for part := range strings.SplitSeq(text, ",") {
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		from, ok := weekdays[first]
		to, ok2 := weekdays[last]
		if !ok || !ok2 {
			return days, errors.New("days: must be days such as mon-fri,sun")
		}
		for d := from; ; d = (d + 1) % 7 {
			days[d] = true
			if d == to {
				break
			}
		}
	}
	return days, nil
}

// Times returns From and To since midnight.
func (w *SyncWindow) Times() (from, to time.Duration, err error) {
	if from, err = clockTime(w.From); err != nil {
		return 0, 0, errors.New("from: must be a time of day such as 08:00")
	}
	if to, err = clockTime(w.To); err != nil {
		return 0, 0, errors.New("to: must be a time of day such as 18:00, or 24:00")
	}
	return from, to, nil
}

func clockTime(text string) (time.Duration, error) {
	if text == "24:00" {
		return 24 * time.Hour, nil
	}
	t, err := time.Parse("15:04", text)
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, err
}

func (r *SyncRegistry) setDefaults() {
	r.TLSVerify = true
	r.SyncLegacyCosignTags = true
	r.SyncTimeout = 3 * time.Hour
	r.ResponseHeaderTimeout = 30 * time.Second
	r.ReqConcurrent = 3
	r.Stream = true
	r.LocalPushes = "allow"
	r.TagMoves = "any"
	r.Forward.Conflict = "overwrite"
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
