package desk

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/keyrelease/krabox/image"
)

// A verb is a word of the command line, with its help: how it is called, line by line, and what it does.
type verb struct {
	name string
	how  []string // without "domain NAME"
	what string
	run  func(args []string, out, talk io.Writer) error
}

// verbs are in the order of a domain's life. Two of one name are two paragraphs of its help.
func verbs() []verb {
	return []verb{
		{"init", []string{"DIR [-name NAME] [-plain | -recipients FILE] [-recovery K/N -shares DIR]", "[-module FILE -token LABEL]"},
			"make a domain: keys in DIR, public part in DIR/domain.json and DIR/root.pem. Key files are encrypted to a\n" +
				"passphrase, or to the age recipients of a file, any of whom opens them; -plain is for evaluation. With\n" +
				"-token root and label key are made in a PKCS#11 token. -recovery 2/3 splits the recovery key in three\n" +
				"shares, one file each in the folder -shares, any two of which give it", runInit},
		{"vendor", []string{"add -dir DIR -name NAME -certificates FILE", "list -dir DIR", "remove -dir DIR -name NAME"},
			"the makers of TPMs whose endorsement certificates the domain believes", runVendor},
		{"firmware", []string{"approve -dir DIR -request FILE [-note TEXT] [-first-seen FINGERPRINT]", "list -dir DIR", "remove -dir DIR -model MODEL -pcr0 DIGEST"},
			"the firmware that machines may have, by model: what the request shows is put on the list", runFirmware},
		{"enrol", []string{"-dir DIR -manifest kra.json -officer NAME -passphrase-file FILE",
			"[-request FILE | -at https://ADDRESS -code CODE]", "[-name box1] [-dns NAME,…] [-ip ADDRESS,…] [-first-seen FINGERPRINT] [-firmware-as-seen]", "[-as-observed] [-replace] [-dry-run]  > bundle.pem"},
			"take a box into service: check its request, certify it, approve the release on it, name its first\n" +
				"officer; the answer opens only in the TPM that asked. -first-seen: no maker vouches for the TPM,\n" +
				"but you have read this fingerprint at the box's console. -at: over the network, to the box whose console\n" +
				"shows this code (enrol listen); -first-seen code takes the code for the fingerprint", runEnrol},
		{"passport", []string{"-dir DIR [-name BOX]"},
			"the boxes and platforms of the domain, or what it has certified of one box: its TPM, its keys, its names", runPassport},
		{"rekey", []string{"-dir DIR -manifest kra.json -request FILE -name BOX [-firmware-as-seen] [-as-observed] [-dry-run]  > bundle.pem"},
			"certify the keys of an enrolled box anew, after a new request of it: before its certificates expire, or\n" +
				"when its keys are new. A new label key of the domain is another matter: boxes obey the keys in their image,\n" +
				"so that it takes a new folder, a new image and a new enrolment; 'recovery approve' serves till then", runRekey},
		{"label", []string{"define -dir DIR -name LABEL -part server|client|peer [-stages running,maintenance] [-attended] -description TEXT [-dry-run]",
			"approve -dir DIR -manifest kra.json -name LABEL,… [-like FILE,…] [-first-seen FINGERPRINT,…]", "[-firmware-as-seen] [-as-observed] [-dry-run]  > bundle.pem", "list -dir DIR",
			"client|peer -dir DIR -name LABEL -description TEXT [-dry-run]"},
			"what states of software stand for: define a label for boxes (with stages) or for other platforms (without), whose\n" +
				"description lies in DIR/labels; approve a release under the labels named; list all.\n" +
				"client and peer are short for defining a label of platforms, machines that ask for keys as machines", runLabel},
		{"approve", []string{"-dir DIR -manifest kra.json [-labels LABEL,…] [-like FILE,…] [-first-seen FINGERPRINT,…]", "[-firmware-as-seen] [-as-observed] [-dry-run]  > bundle.pem"},
			"approve a release for all boxes; for machines like those of the requests or bundles named,\n" +
				"else for those of all enrolled boxes", runApprove},
		{"epoch", []string{"advance -dir DIR -manifest kra.json [-like FILE,…] [-first-seen FINGERPRINT,…]", "[-firmware-as-seen] [-as-observed] [-dry-run]  > bundle.pem"},
			"let boxes that run this release refuse all older ones from then on; there is no way back", runEpoch},
		{"operator", []string{"add -dir DIR -name NAME -key FILE", "list -dir DIR", "remove -dir DIR -name NAME"},
			"the operators' tokens by which boxes are attended: public keys, P-256, in PEM", runOperator},
		{"platform", []string{"enrol -dir DIR -request FILE -name NAME -version WORD [-epoch 1] [-commit WORD]", "[-first-seen FINGERPRINT] [-private] [-replace] [-dry-run]  > identity.pem",
			"approve -dir DIR -request FILE -version WORD [-epoch 1] [-commit WORD]", "[-first-seen FINGERPRINT] [-dry-run]  > approvals.pem",
			"certify -dir DIR -csr FILE -label LABEL -name NAME [-replace] [-dry-run]  > label.pem"},
			"take a platform into the fleet: certify its keys for its labels and approve the software that it runs now; the\n" +
				"answer opens only in the TPM that asked. -private: nothing in it says which TPM that is. approve: what the\n" +
				"request shows to run, for every platform in the same state. certify: a label key that no TPM holds, marked\n" +
				"unmeasured, which confirms nothing", runPlatform},
		{"revoke", []string{"-dir DIR [-name NAME | -key HEX] [-label LABEL] [-reason TEXT] [-to URL] [-dry-run]"},
			"take labels from a box or platform: it stops, and nobody believes it any more", runRevoke},
		{"grant", []string{"-dir DIR [-name NAME | -key HEX] [-label LABEL] [-reason TEXT] [-to URL] [-dry-run]"},
			"let it have them, where only those who are granted may (mode attest)", runGrant},
		{"restore", []string{"-dir DIR [-name NAME | -key HEX] [-label LABEL] [-reason TEXT] [-to URL] [-dry-run]"},
			"take back a revocation or a grant, named as it was", runRestore},
		{"publish", []string{"-dir DIR [-mode attest|revoke] [-min-epoch N] [-valid 168h] [-to URL] [-list] [-dry-run]  > permissions.pem"},
			"sign the permissions anew, for boxes and clients that stop when theirs are stale", runPublish},
		{"sign", []string{"-dir DIR -uki dist/kra.efi"},
			"sign a built image for the firmware (Secure Boot): dist/kra.signed.efi, also on dist/kra.img", runSign},
		{"recovery", []string{"split -dir DIR -recovery K/N -shares DIR [-keep] [-dry-run]",
			"approve -dir DIR -manifest kra.json [-share FILE,…] [-like FILE,…] [-first-seen FINGERPRINT,…]", "[-firmware-as-seen] [-as-observed] [-label-key-lost] [-dry-run]  > bundle.pem"},
			"split the recovery key in shares, and remove the whole one; approve a release by it, when the label key\n" +
				"is lost (-label-key-lost: then nobody can note it in the journal) or must no longer be believed", runRecovery},
		{"escrow", []string{"-dir DIR -request FILE"},
			"show a box's owner secrets, which only the domain can; the request must be of a TPM that it enrolled", runEscrow},
		{"backup", []string{"approve -dir DIR -request FILE [-dry-run]  > approval.pem", "list -dir DIR"},
			"approve a box's backup key: what it printed when the shares were written down (backup key request). Its token wraps\n" +
				"keys for no backup key that is not approved, nor for one that was approved before its newest. The same request\n" +
				"is answered again as it was; list shows all", runBackup},
		{"person", []string{"issue -dir DIR -name NAME [-organization NAME] [-unit NAME] [-request CSR] [-days N] [-dry-run]",
			"list -dir DIR", "revoke -dir DIR -serial NUMBER [-dry-run]", "publish -dir DIR [-dry-run]"},
			"certificates for people who have no PKI of their own, under DIR/people.pem; the key is made here unless a\n" +
				"PKCS #10 request brings one. What is revoked is in DIR/people.crl, which is good for 30 days: publish\n" +
				"signs it anew", runPerson},
		{"journal", []string{"-dir DIR [-expect DIGEST]"},
			"what this domain did, verified: each act is signed and names the one before; -expect refuses a journal\n" +
				"that does not contain the act which was the last one with this digest", runJournal},
		{"install", []string{"-disk kra.img -uki kra.signed.efi [-bundle fleet.pem]"},
			"put a release on a stopped disk, with its approvals: the box then needs no paste", runInstall},
	}
}

func usage(all ...verb) string {
	var b strings.Builder
	b.WriteString("usage:\n")
	for _, v := range all {
		for i, h := range v.how {
			if i > 0 && strings.HasPrefix(h, "[") {
				fmt.Fprintf(&b, "         %s\n", h)
				continue
			}
			fmt.Fprintf(&b, "  domain %s %s\n", v.name, h)
		}
		for line := range strings.Lines(v.what) {
			fmt.Fprintf(&b, "      %s\n", strings.TrimSpace(line))
		}
	}
	return b.String() + handsText
}

// Command is the command line of cmd/domain. What it makes goes to out, what people should read to talk.
func Command(args []string, out, talk io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(talk, usage(verbs()...))
		return errors.New("say what to do")
	}
	i := slices.IndexFunc(verbs(), func(v verb) bool { return v.name == args[0] })
	if i < 0 {
		fmt.Fprint(talk, usage(verbs()...))
		if args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
			return nil
		}
		return fmt.Errorf("unknown verb %q", args[0])
	}
	if err := verbs()[i].run(args[1:], out, talk); !errors.Is(err, flag.ErrHelp) {
		return err
	}
	return nil
}

// flags begins a verb's command line, with its help and the flags that every verb has.
func flags(name string, talk io.Writer) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(talk)
	f.Usage = func() {
		for _, v := range verbs() {
			if v.name == name {
				fmt.Fprint(talk, usage(v))
			}
		}
	}
	handsFlags(f)
	return f
}

// parse also takes positional words that stand before flags, at most limit of them.
func parse(f *flag.FlagSet, args []string, limit int) ([]string, error) {
	var words []string
	for {
		if err := f.Parse(args); err != nil {
			return nil, err
		}
		if f.NArg() == 0 {
			return words, nil
		}
		words, args = append(words, f.Arg(0)), f.Args()[1:]
		if len(words) > limit {
			return nil, fmt.Errorf("unexpected %q", words[limit])
		}
	}
}

// need refuses a command line without one of the flags that the verb cannot do without.
func need(f *flag.FlagSet, names ...string) error {
	for _, name := range names {
		if given(f, name) == "" {
			return fmt.Errorf("%s: -%s is missing; 'domain %s -h' shows how", f.Name(), name, f.Name())
		}
	}
	return nil
}

func runInstall(args []string, out, talk io.Writer) error {
	f := flags("install", talk)
	disk := f.String("disk", "", "image of a stopped disk")
	uki := f.String("uki", "", "release, signed for the firmware (dist/kra.signed.efi)")
	bundle := f.String("bundle", "", "approvals of the release for all boxes, as domain approve printed them")
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	if err := need(f, "disk", "uki"); err != nil {
		return err
	}
	b, err := os.ReadFile(*uki)
	if err != nil {
		return fmt.Errorf("install: %w", err)
	}
	if *bundle != "" {
		text, err := os.ReadFile(*bundle)
		if err != nil {
			return fmt.Errorf("install: %w", err)
		}
		if err := image.InstallApprovals(*disk, text); err != nil {
			return err
		}
	}
	return image.InstallUKI(*disk, b)
}
