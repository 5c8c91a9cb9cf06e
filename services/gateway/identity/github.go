package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/oauth2"

	"github.com/berth-registry/berth/registry"
)

const (
	maxGitHubAnswer = 1 << 20
	maxGitHubPages  = 10 // of 100 entries
)

// githubUser asks GitHub whose token it is: as in zot the name is the primary
// verified e-mail address, and the groups are organizations and "org/team".
func (p *provider) githubUser(ctx context.Context, token *oauth2.Token) (person, error) {
	var user struct {
		ID    int64  `json:"id"`
		Login string `json:"login"`
	}
	if err := p.github(ctx, token, "/user", &user); err != nil {
		return person{}, registry.ErrUnauthorized.Because(err)
	}
	var emails []struct {
		Email    string `json:"email"`
		Primary  bool   `json:"primary"`
		Verified bool   `json:"verified"`
	}
	if err := p.github(ctx, token, "/user/emails", &emails); err != nil {
		return person{}, registry.ErrUnauthorized.Because(err)
	}
	who := person{claims: map[string]string{"login": user.Login, "sub": strconv.FormatInt(user.ID, 10), "iss": p.web()}}
	for _, e := range emails {
		if e.Primary && e.Verified {
			who.name = e.Email
		}
	}
	if p.UserClaim == "login" || p.UserClaim == "preferred_username" {
		who.name = user.Login
	}
	if who.name == "" || user.ID == 0 {
		return person{}, registry.ErrUnauthorized.Because(errors.New("GitHub knows no verified primary e-mail address"))
	}
	who.origin = p.web() + "\n" + strconv.FormatInt(user.ID, 10)
	if err := p.githubGroups(ctx, token, &who); err != nil {
		return person{}, registry.ErrUnauthorized.Because(err)
	}
	return who, nil
}

// githubGroups needs the scope read:org. Without it GitHub answers 403 or with what
// is public.
func (p *provider) githubGroups(ctx context.Context, token *oauth2.Token, who *person) error {
	type org struct {
		Login string `json:"login"`
	}
	type team struct {
		Slug string `json:"slug"`
		Org  org    `json:"organization"`
	}
	orgs, err := githubPages[org](ctx, p, token, "/user/orgs")
	if err != nil {
		return err
	}
	for _, o := range orgs {
		who.groups = append(who.groups, o.Login)
	}
	teams, err := githubPages[team](ctx, p, token, "/user/teams")
	if err != nil {
		return err
	}
	for _, t := range teams {
		who.groups = append(who.groups, t.Org.Login+"/"+t.Slug)
	}
	return nil
}

func githubPages[T any](ctx context.Context, p *provider, token *oauth2.Token, path string) ([]T, error) {
	var all []T
	for page := 1; page <= maxGitHubPages; page++ {
		var part []T
		err := p.github(ctx, token, fmt.Sprintf("%s?per_page=100&page=%d", path, page), &part)
		if errors.Is(err, errGitHubDenied) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if all = append(all, part...); len(part) < 100 {
			break
		}
	}
	return all, nil
}

var errGitHubDenied = errors.New("GitHub denies it")

func (p *provider) github(ctx context.Context, token *oauth2.Token, path string, v any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.api()+path, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token.AccessToken)
	r.Header.Set("Accept", "application/vnd.github+json")
	resp, err := p.HTTP.Do(r)
	if err != nil {
		return fmt.Errorf("asking GitHub for %s: %w", path, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusForbidden, http.StatusNotFound:
		return errGitHubDenied
	default:
		return fmt.Errorf("asking GitHub for %s: status %d", path, resp.StatusCode)
	}
	return json.NewDecoder(io.LimitReader(resp.Body, maxGitHubAnswer)).Decode(v)
}

// web is the address of GitHub, or of a GitHub Enterprise server.
func (p *provider) web() string {
	if u, err := url.Parse(p.AuthURL); err == nil && u.Host != "" {
		return u.Scheme + "://" + u.Host
	}
	return "https://github.com"
}

// api is where the REST API of it is.
func (p *provider) api() string {
	if w := p.web(); !strings.EqualFold(w, "https://github.com") {
		return w + "/api/v3"
	}
	return "https://api.github.com"
}
