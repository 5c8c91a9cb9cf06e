package config

import "time"

// Auth says how clients prove who they are. Without any method everybody may
// come in.
type Auth struct {
	FailDelay       int       `json:"failDelay"` // seconds
	HTPasswd        *HTPasswd `json:"htpasswd"`
	LDAP            *LDAP     `json:"ldap"`
	Bearer          *Bearer   `json:"bearer"`
	OpenID          *OpenID   `json:"openid"`
	APIKey          bool      `json:"apikey"`
	MTLS            *MTLS     `json:"mtls"`
	Token           *Token    `json:"token"`
	SessionKeysFile string    `json:"sessionKeysFile"`
	SessionDriver   Driver    `json:"sessionDriver"`
	SecureSession   bool      `json:"secureSession"`
}

// HTPasswd names a file of users and password hashes.
type HTPasswd struct {
	Path string `json:"path"`
}

// LDAP is a directory to bind against.
type LDAP struct {
	CredentialsFile    string `json:"credentialsFile"` // JSON: bindDN, bindPassword
	BindDN             string `json:"bindDN"`
	BindPassword       Secret `json:"bindPassword"`
	BindPasswordFile   string `json:"bindPasswordFile"`
	Address            string `json:"address"`
	Port               int    `json:"port"`
	BaseDN             string `json:"baseDN"`
	UserAttribute      string `json:"userAttribute"`
	UserGroupAttribute string `json:"userGroupAttribute"`
	UserFilter         string `json:"userFilter"`
	Insecure           bool   `json:"insecure"`
	StartTLS           bool   `json:"startTLS"`
	SkipVerify         bool   `json:"skipVerify"`
	SubtreeSearch      bool   `json:"subtreeSearch"`
	CACert             string `json:"cacert"`
}

// Bearer accepts tokens of a token server or of OIDC issuers.
type Bearer struct {
	Realm                 string                 `json:"realm"`
	Service               string                 `json:"service"`
	Cert                  string                 `json:"cert"`
	AWSSecretsManager     *AWSSecretsManager     `json:"awsSecretsManager"`
	OIDC                  []BearerOIDC           `json:"oidc"`
	UpstreamTokenEndpoint *UpstreamTokenEndpoint `json:"upstreamTokenEndpoint"`
}

// AWSSecretsManager names a secret that holds verification keys.
type AWSSecretsManager struct {
	Region          string        `json:"region"`
	SecretName      string        `json:"secretName"`
	RefreshInterval time.Duration `json:"refreshInterval"`
}

func (a *AWSSecretsManager) setDefaults() { a.RefreshInterval = time.Minute }

// BearerOIDC is an issuer whose ID tokens are accepted as bearer tokens.
type BearerOIDC struct {
	Issuer                   string      `json:"issuer"`
	Audiences                []string    `json:"audiences"`
	ClaimMapping             *ClaimRules `json:"claimMapping"`
	CertificateAuthority     string      `json:"certificateAuthority"` // PEM
	CertificateAuthorityFile string      `json:"certificateAuthorityFile"`
	SkipIssuerVerification   bool        `json:"skipIssuerVerification"`
}

// ClaimRules maps the claims of a token by CEL expressions.
type ClaimRules struct {
	Variables   []ClaimVariable   `json:"variables"`
	Validations []ClaimValidation `json:"validations"`
	Username    string            `json:"username"`
	Groups      string            `json:"groups"`
}

// ClaimVariable names an expression for use in later ones.
type ClaimVariable struct {
	Name       string `json:"name"`
	Expression string `json:"expression"`
}

// ClaimValidation is an expression that must hold.
type ClaimValidation struct {
	Expression string `json:"expression"`
	Message    string `json:"message"`
}

// UpstreamTokenEndpoint is a token server to pass requests on to.
type UpstreamTokenEndpoint struct {
	Realm             string `json:"realm"`
	Service           string `json:"service"`
	AllowInsecureHTTP bool   `json:"allowInsecureHttp"`
}

// OpenID holds the login buttons of the web UI.
type OpenID struct {
	Providers            map[string]OpenIDProvider `json:"providers"` // by name, lower case
	CallbackAllowOrigins []string                  `json:"callbackAllowOrigins"`
}

// OpenIDProvider is one place to log in. "github" is GitHub's OAuth; any other
// name is OpenID Connect and needs an issuer.
type OpenIDProvider struct {
	Name             string        `json:"name"`
	CredentialsFile  string        `json:"credentialsFile"` // JSON: clientid, clientsecret
	ClientID         string        `json:"clientid"`
	ClientSecret     Secret        `json:"clientsecret"`
	ClientSecretFile string        `json:"clientsecretFile"`
	KeyPath          string        `json:"keypath"`
	Issuer           string        `json:"issuer"`
	AuthURL          string        `json:"authurl"`
	TokenURL         string        `json:"tokenurl"`
	Scopes           []string      `json:"scopes"`
	ClaimMapping     *ClaimMapping `json:"claimMapping"`
	// AllowUnverifiedEmail is ours: zot never asks whether an address is verified.
	AllowUnverifiedEmail bool `json:"allowUnverifiedEmail"`
}

// ClaimMapping names the claims that hold the user's name and groups.
type ClaimMapping struct {
	Username string `json:"username"`
	Groups   string `json:"groups"`
}

func (m *ClaimMapping) setDefaults() { m.Username, m.Groups = "email", "groups" }

// MTLS takes the user's name from the client certificate.
type MTLS struct {
	IdentityAttributes []string `json:"identityAttributes"`
	URISANPattern      string   `json:"uriSanPattern"`
	URISANIndex        int      `json:"uriSanIndex"`
	DNSSANIndex        int      `json:"dnsSanIndex"`
	EmailSANIndex      int      `json:"emailSanIndex"`
}

func (m *MTLS) setDefaults() { m.IdentityAttributes = []string{"CommonName"} }

// Token configures the built-in token service.
type Token struct {
	Realm string `json:"realm"`
}
