package syncer

import (
	"strings"

	"github.com/berth-registry/berth/services/syncer/upstream"
)

// scope returns globs of local names outside of which the rule covers nothing: who
// can't ask knows by them what is certainly not its business.
func (r *Rule) scope() []string {
	if len(r.Content) == 0 {
		return []string{"**"}
	}
	hub := upstream.Complete(r.Host, "x") != "x"
	all := []string{hostInPath(r.Host) + "/**"}
	for name := range upstream.Names(r.Host) {
		all = append(all, name+"/**")
	}
	for i := range r.Content {
		c := &r.Content[i]
		dest, prefix := strings.Trim(c.Destination, "/"), strings.Trim(c.Prefix, "/")
		switch {
		case c.StripPrefix && dest == "":
			return []string{"**"}
		case c.StripPrefix:
			all = append(all, dest, dest+"/**")
			continue
		}
		all = append(all, under(dest, prefix))
		if hub && dest != "" {
			all = append(all, under(dest, "*"))
		}
	}
	if hub {
		all = append(all, "*") // Docker Hub's own images, without library/
	}
	return all
}

func under(dest, name string) string {
	if dest == "" {
		return name
	}
	return dest + "/" + name
}
