//! Reads one file: its imports, definitions and tests.

use super::lexer::{Token, tokenize};

/// A module's path below the crate's root; the root's is empty.
pub(crate) type ModulePath = Vec<String>;

/// A path as the code has it, and the module that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CodePath {
    pub(crate) module: ModulePath,
    pub(crate) segments: Vec<String>,
}

/// One name that a `use` brings into its module. The name `*` stands for a glob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) name: String,
    pub(crate) path: CodePath,
    /// `pub use`, `pub(crate) use`: a re-export, by which the file uses nothing itself.
    pub(crate) is_public: bool,
}

/// What is defined at the level of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) module: ModulePath,
    pub(crate) keyword: String,
    pub(crate) name: String,
}

/// What one file holds outside of its tests.
#[derive(Debug, Default)]
pub(crate) struct Source {
    pub(crate) imports: Vec<Import>,
    /// Paths in code, outside of `use`; one segment for a type or a called function.
    pub(crate) paths: Vec<CodePath>,
    pub(crate) definitions: Vec<Definition>,
    /// The modules of this file: its own and those that it has inline.
    pub(crate) modules: Vec<ModulePath>,
    /// Modules in files of their own that exist for tests alone.
    pub(crate) test_modules: Vec<ModulePath>,
    /// Lines of every function that is called `of`.
    pub(crate) of_functions: Vec<usize>,
    /// Keywords that a pure room has no use for: `async`, `await`, `unsafe`.
    pub(crate) impure_keywords: Vec<String>,
    /// Lines outside of tests; blank ones and comments count.
    pub(crate) lines: usize,
    /// Functions under `#[test]`.
    pub(crate) tests: usize,
}

/// Reads the file of the module `module`.
pub(crate) fn read_source(module: &ModulePath, text: &str) -> Source {
    let all = tokenize(text);
    let mut source = Source { lines: text.lines().count(), modules: vec![module.clone()], ..Source::default() };
    let is_test = |four: &&[Token<'_>]| matches!(texts(four)[..], ["#", "[", "test", "]"] | [_, "::", "test", "]"]);
    source.tests = all.windows(4).filter(is_test).count();
    let code = source.cut_tests(module, &all);
    source.read_code(module, &code);
    source
}

fn texts<'a>(tokens: &[Token<'a>]) -> Vec<&'a str> {
    tokens.iter().map(|token| token.text).collect()
}

impl Source {
    /// Returns the tokens outside of items under `#[cfg(test)]`, and takes those items' lines off the count.
    fn cut_tests<'a>(&mut self, module: &ModulePath, all: &[Token<'a>]) -> Vec<Token<'a>> {
        const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
        let mut code = Vec::new();
        let mut at = 0;
        while at < all.len() {
            if all.len() - at < MARK.len() || texts(&all[at..at + MARK.len()]) != MARK {
                code.push(all[at]);
                at += 1;
                continue;
            }
            let end = item_end(all, at + MARK.len());
            let item = &all[at..end];
            self.lines -= item[item.len() - 1].line - item[0].line + 1;
            if let [.., keyword, name, semicolon] = item
                && (keyword.text, semicolon.text) == ("mod", ";")
            {
                self.test_modules.push(child(module, name.text));
            }
            at = end;
        }
        code
    }

    fn read_code(&mut self, file: &ModulePath, code: &[Token<'_>]) {
        let mut inline: Vec<(ModulePath, usize)> = Vec::new();
        let (mut depth, mut at) = (0, 0);
        while at < code.len() {
            let (module, level) = inline.last().map_or((file.clone(), 0), |(module, level)| (module.clone(), *level));
            let token = code[at];
            let next = |ahead: usize| code.get(at + ahead).map_or("", |token| token.text);
            let mut length = 1;
            match token.text {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if inline.last().is_some_and(|(_, level)| depth < *level) {
                        inline.pop();
                    }
                }
                "mod" if next(2) == "{" => {
                    depth += 1;
                    inline.push((child(&module, next(1)), depth));
                    self.modules.push(child(&module, next(1)));
                    length = 3;
                }
                "use" if next(1) != "<" => {
                    let is_public = at > 0 && matches!(code[at - 1].text, "pub" | ")");
                    let end = code[at..].iter().position(|token| token.text == ";").map_or(code.len(), |end| at + end);
                    self.read_use(&module, is_public, &texts(&code[at + 1..end]));
                    length = end - at;
                }
                "async" | "await" | "unsafe" => self.impure_keywords.push(token.text.to_owned()),
                "struct" | "enum" | "union" | "trait" | "type" | "fn" | "const" | "static" | "macro_rules" => {
                    self.read_definition(&module, depth == level, &code[at..]);
                }
                _ if token.is_word() && (at == 0 || !matches!(code[at - 1].text, "::" | "." | "fn")) => {
                    let segments = path_segments(&code[at..]);
                    length = segments.len() * 2 - 1;
                    // A word alone may be a variable or a field: only types and calls name items for sure.
                    if length > 1 || token.text.starts_with(char::is_uppercase) || next(1) == "(" {
                        self.paths.push(CodePath { module, segments });
                    }
                }
                _ => {}
            }
            at += length;
        }
    }

    fn read_definition(&mut self, module: &ModulePath, at_module_level: bool, code: &[Token<'_>]) {
        let keyword = code[0].text;
        let name = code[1..].iter().find(|token| !matches!(token.text, "!" | "mut"));
        let Some(name) = name.filter(|name| name.is_word() && !matches!(name.text, "fn" | "unsafe" | "extern")) else {
            return;
        };
        if (keyword, name.text) == ("fn", "of") {
            self.of_functions.push(name.line);
        }
        if at_module_level {
            let (keyword, name) = (keyword.to_owned(), name.text.to_owned());
            self.definitions.push(Definition { module: module.clone(), keyword, name });
        }
    }

    fn read_use(&mut self, module: &ModulePath, is_public: bool, tree: &[&str]) {
        let mut leaves = Vec::new();
        use_leaves(&[], tree, &mut leaves);
        for (segments, name) in leaves {
            self.imports.push(Import { name, path: CodePath { module: module.clone(), segments }, is_public });
        }
    }
}

fn child(module: &ModulePath, name: &str) -> ModulePath {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

/// Returns the words of a path that begins at the first token: `a::b::c` of `a::b::c::<D>`.
fn path_segments(code: &[Token<'_>]) -> Vec<String> {
    let mut segments = vec![code[0].text.to_owned()];
    let mut rest = &code[1..];
    while let [colons, word, after @ ..] = rest
        && colons.text == "::"
        && word.is_word()
    {
        segments.push(word.text.to_owned());
        rest = after;
    }
    segments
}

/// Flattens a use tree into (path, name that it has here).
fn use_leaves(prefix: &[String], tree: &[&str], leaves: &mut Vec<(Vec<String>, String)>) {
    let mut path = prefix.to_vec();
    let mut rest = tree;
    loop {
        match rest {
            ["::", after @ ..] => rest = after,
            ["{", inner @ .., "}"] => {
                for branch in split_branches(inner) {
                    use_leaves(&path, branch, leaves);
                }
                return;
            }
            [] => break,
            ["as", name, ..] => {
                leaves.push((path, (*name).to_owned()));
                return;
            }
            ["self", after @ ..] if !path.is_empty() => rest = after,
            [segment, after @ ..] => {
                path.push((*segment).to_owned());
                rest = after;
            }
        }
    }
    if let Some(name) = path.last().cloned() {
        if name == "*" {
            path.pop();
        }
        leaves.push((path, name));
    }
}

fn split_branches<'t, 'a>(inner: &'t [&'a str]) -> Vec<&'t [&'a str]> {
    let mut depth = 0;
    let branches = inner.split(|token| {
        match *token {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        *token == "," && depth == 0
    });
    branches.filter(|branch| !branch.is_empty()).collect()
}

/// Returns the index after the item, field or statement that begins at `start`, its attributes included.
fn item_end(all: &[Token<'_>], start: usize) -> usize {
    let mut at = start;
    while all.get(at).is_some_and(|token| token.text == "#") {
        at = group_end(all, at + 1);
    }
    let head: Vec<&str> = all[at..].iter().take(5).map(|token| token.text).collect();
    let has = |words: &[&str]| head.iter().any(|word| words.contains(word));
    let ends_with_braces = has(&["fn"]) || !has(&["use", "const", "static", "let"]);
    let ends_with_comma =
        !has(&["fn", "use", "const", "static", "let", "mod", "struct", "enum", "impl", "trait", "type"]);
    while let Some(token) = all.get(at) {
        match token.text {
            ";" => return at + 1,
            "," if ends_with_comma => return at + 1,
            "{" if ends_with_braces => return group_end(all, at),
            "{" | "(" | "[" => at = group_end(all, at),
            "}" | ")" | "]" => return at,
            _ => at += 1,
        }
    }
    at
}

/// Returns the index after the bracket that closes the one at `start`.
fn group_end(all: &[Token<'_>], start: usize) -> usize {
    let mut depth = 0;
    for (at, token) in all.iter().enumerate().skip(start) {
        match token.text {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    all.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Source {
        read_source(&vec!["room".to_owned()], text)
    }

    fn imported(source: &Source) -> Vec<String> {
        let import = |import: &Import| format!("{} as {}", import.path.segments.join("::"), import.name);
        source.imports.iter().map(import).collect()
    }

    #[test]
    fn nested_use_tree_is_flattened() {
        let source = read("use crate::{a::{B, self, c::*}, d as e,};\npub(crate) use super::f;");
        assert_eq!(
            imported(&source),
            ["crate::a::B as B", "crate::a as a", "crate::a::c as *", "crate::d as e", "super::f as f"]
        );
        assert_eq!(
            source.imports.iter().map(|import| import.is_public).collect::<Vec<_>>(),
            [false, false, false, false, true]
        );
    }

    #[test]
    fn test_items_are_no_code() {
        let text = "fn a() {}\n#[cfg(test)]\n#[derive(Debug)]\nstruct B { c: u8 }\n#[cfg(test)]\nmod tests;\n\
                    #[cfg(test)]\nuse x::{y, z};\n#[cfg(test)]\nconst C: [u8; 2] = [0, 1];\nfn d() { e::f(); }\n\
                    #[cfg(test)]\nconst fn k<A, B>(l: A) { m::n() }\n#[cfg(test)]\nmod more {\n    #[test]\n    fn g() { h::i() }\n    #[tokio::test]\n    fn j() {}\n}\n";
        let source = read(text);
        assert_eq!(
            source.definitions.iter().map(|definition| definition.name.as_str()).collect::<Vec<_>>(),
            ["a", "d"]
        );
        assert_eq!(source.test_modules, [["room", "tests"]]);
        assert_eq!((source.lines, source.tests), (2, 2));
        assert_eq!(source.paths.len(), 1, "{:?}", source.paths);
    }

    #[test]
    fn definition_in_inline_module_belongs_to_it() {
        let source = read("mod a { pub struct B; fn c() { struct Local; } }\nimpl D for E { type F = u8; fn of() {} }");
        let found: Vec<_> =
            source.definitions.iter().map(|found| (found.module.join("::"), found.name.as_str())).collect();
        assert_eq!(found, [("room::a".to_owned(), "B"), ("room::a".to_owned(), "c")]);
        assert_eq!(source.of_functions, [2]);
    }

    #[test]
    fn path_in_code_ends_before_generics() {
        let source = read("fn f() { a::b::<c>(); x.y::<super::Z>(); }");
        let paths: Vec<_> = source.paths.iter().map(|path| path.segments.join("::")).collect();
        assert_eq!(paths, ["a::b", "super::Z"]);
    }

    #[test]
    fn type_or_call_is_a_path_of_one_segment() {
        let source = read("fn f(a: A, b: u8) -> u8 { b + c(b) + a.d() }");
        let paths: Vec<_> = source.paths.iter().map(|path| path.segments.join("::")).collect();
        assert_eq!(paths, ["A", "c"]);
    }
}
