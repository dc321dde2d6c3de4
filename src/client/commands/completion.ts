import { LayerdError } from '../../protocol/errors.ts';
import { Exit, type Run } from './command.ts';

/**
 * Each script hands the words typed so far to `layerctl __complete`, whose first line says what follows: `words`, with
 * one word and a tab and its description on each line, or `file` or `directory`.
 */
const SCRIPTS: Readonly<Record<string, string>> = {
  // Bash parts words at colons and equals signs, which image names and options have: they are put together again, and
  // what stands before the last part is taken off the answers.
  bash: String.raw`# bash completion for layerctl
_layerctl() {
    local line=${'$'}{COMP_LINE:0:COMP_POINT} words=() current='' rest i part
    rest=$line
    for ((i = 0; i <= COMP_CWORD; i++)); do
        part=${'$'}{COMP_WORDS[i]}
        if [[ $rest == [[:space:]]* || $i -eq 0 ]]; then
            [[ $i -gt 0 ]] && words+=("$current")
            current=''
            rest=${'$'}{rest#"${'$'}{rest%%[![:space:]]*}"}
        fi
        if [[ $i -eq $COMP_CWORD ]]; then
            current+=$rest
        else
            current+=$part
            rest=${'$'}{rest#"$part"}
        fi
    done
    words+=("$current")
    local kind word candidates=()
    COMPREPLY=()
    {
        IFS= read -r kind
        while IFS=$'\t' read -r word _; do candidates+=("$word"); done
    } < <("${'$'}{words[0]}" __complete "${'$'}{words[@]:1}" 2>/dev/null)
    case $kind in
        file) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "${'$'}{current#*=}") ;;
        directory) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "${'$'}{current#*=}") ;;
        *)
            local cut=''
            [[ $COMP_WORDBREAKS == *=* && $current == *=* ]] && cut=${'$'}{current%"${'$'}{current##*=}"}
            [[ $COMP_WORDBREAKS == *:* && ${'$'}{current#"$cut"} == *:* ]] && cut=${'$'}{current%"${'$'}{current##*:}"}
            COMPREPLY=("${'$'}{candidates[@]#"$cut"}")
            [[ ${'$'}{#COMPREPLY[@]} -eq 1 && ${'$'}{COMPREPLY[0]} == *= ]] && compopt -o nospace
            ;;
    esac
}
complete -F _layerctl layerctl
`,
  zsh: String.raw`#compdef layerctl
_layerctl() {
    local -a lines candidates
    local line kind
    lines=("${'$'}{(@f)$("${'$'}{words[1]}" __complete "${'$'}{(@)words[2,CURRENT]}" 2>/dev/null)}")
    kind=${'$'}{lines[1]}
    case $kind in
        file) _files ;;
        directory) _files -/ ;;
        *)
            for line in "${'$'}{(@)lines[2,-1]}"; do
                [[ -n $line ]] || continue
                candidates+=("${'$'}{${'$'}{line%%$'\t'*}//:/\\:}:${'$'}{line#*$'\t'}")
            done
            _describe -V layerctl candidates
            ;;
    esac
}
if [[ $funcstack[1] == _layerctl ]]; then
    _layerctl "$@"
else
    compdef _layerctl layerctl
fi
`,
  fish: String.raw`# fish completion for layerctl
function __layerctl_complete
    set -l words (commandline --tokenize --cut-at-cursor --current-process)
    set -l current (commandline --current-token --cut-at-cursor)
    set -l lines ($words[1] __complete $words[2..-1] "$current" 2>/dev/null)
    switch "$lines[1]"
        case file
            __fish_complete_path "$current"
        case directory
            __fish_complete_directories "$current"
        case '*'
            printf '%s\n' $lines[2..-1]
    end
end
complete --command layerctl --no-files --arguments '(__layerctl_complete)'
`,
};

/** `layerctl completion`. */
export const completion: Run<object> = async ({ out }, [shell = '']) => {
  const script = Object.hasOwn(SCRIPTS, shell) ? SCRIPTS[shell] : undefined;
  if (script === undefined) {
    throw new LayerdError(
      'invalid',
      `there is no completion for '${shell}'; there is for ${Object.keys(SCRIPTS).join(', ')}`,
    );
  }
  await out.write(script);
  return Exit.ok;
};
