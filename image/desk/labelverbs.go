package desk

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/keyrelease/krabox/kra/label"
)

func runLabel(args []string, out, talk io.Writer) error {
	var o order
	f := flags("label", talk)
	o.forFleet(f)
	name := f.String("name", "", "label, or labels separated by commas")
	part := f.String("part", "server", "server, client or peer")
	stages := f.String("stages", "", "stages of boxes at which it signs, separated by commas; none: a label of other platforms")
	attended := f.Bool("attended", false, "it signs only while an operator is present")
	text := f.String("description", "", "what it stands for, in one line")
	said, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	if len(said) != 1 || !slices.Contains([]string{"define", "approve", "list", "client", "peer"}, said[0]) {
		return fmt.Errorf("label: say define or approve or list or client or peer")
	}
	switch said[0] {
	case "list":
		return o.listLabels(f, out)
	case "approve":
		if err := need(f, "dir", "manifest", "name"); err != nil {
			return err
		}
		o.labels = *name
		return o.approveFor(f, out)
	}
	if said[0] != "define" {
		*part = said[0]
	}
	if err := need(f, "dir", "name", "description"); err != nil {
		return err
	}
	l, err := definitionOf(*name, *part, words(*stages), *attended, *text)
	if err != nil {
		return err
	}
	d, err := openDesk(f, o.dir)
	if err != nil {
		return err
	}
	lines := []string{fmt.Sprintf("to define  label %s: %s", l.Label, inWords(l)), "           " + l.Description, "           what is defined cannot be changed: certificates rely on it"}
	return do(f, o.dry, lines, func() error { return d.Define(l) })
}

func definitionOf(name, part string, stages []string, attended bool, text string) (l label.Definition, err error) {
	l.Operator, l.Description, l.Stages = attended, text, []label.Stage{}
	if l.Label, err = label.ParseID(name); err != nil {
		return l, fmt.Errorf("label define: %w", err)
	}
	if l.Part, err = label.ParsePart(part); err != nil {
		return l, fmt.Errorf("label define: %w", err)
	}
	for _, w := range stages {
		i := slices.IndexFunc([]label.Stage{label.Running, label.Maintenance}, func(s label.Stage) bool { return s.String() == w })
		if i < 0 {
			return l, fmt.Errorf("label define: stage %.20q: want running or maintenance", w)
		}
		l.Stages = append(l.Stages, []label.Stage{label.Running, label.Maintenance}[i])
	}
	return l, nil
}

// inWords says a definition in words.
func inWords(l label.Definition) string {
	if !l.OfBox() {
		return l.Part.String() + ", of other platforms than boxes"
	}
	var stages []string
	for _, s := range l.Stages {
		stages = append(stages, s.String())
	}
	text := "of boxes at " + strings.Join(stages, " and ")
	if l.Operator {
		text += ", while an operator is present"
	}
	return text
}

func (o order) listLabels(f *flag.FlagSet, out io.Writer) error {
	if err := need(f, "dir"); err != nil {
		return err
	}
	d, err := openDesk(f, o.dir)
	if err != nil {
		return err
	}
	all, err := d.Labels()
	for _, l := range all {
		fmt.Fprintf(out, "%-14s %s\n%-14s %s\n", l.Label, inWords(l), "", l.Description)
	}
	return err
}

// approveFor approves a release for machines, under the labels that the order names.
func (o order) approveFor(f *flag.FlagSet, out io.Writer) error {
	d, r, err := o.open(f)
	if err != nil {
		return err
	}
	like, err := readAll(words(o.like))
	if err != nil {
		return err
	}
	lines, err := d.PreviewFleet(r, like...)
	if err != nil {
		return err
	}
	return o.carryOut(f, out, lines, func() ([]byte, error) { return d.ApproveFleet(r, like...) })
}
