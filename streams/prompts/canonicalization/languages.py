"""Names of natural languages, and marks of programming languages: the word lists behind two slot types."""

from __future__ import annotations

import re

_LANGUAGE_NAMES = """
afrikaans albanian amharic arabic armenian azerbaijani basque bengali bosnian bulgarian burmese catalan cantonese
chinese croatian czech danish dutch english estonian filipino finnish flemish french galician georgian german greek
gujarati hausa hebrew hindi hungarian icelandic igbo indonesian irish italian japanese javanese kannada kazakh
khmer korean kurdish lao latin latvian lithuanian macedonian malay malayalam maltese mandarin marathi mongolian
nepali norwegian pashto persian farsi polish portuguese punjabi romanian russian sanskrit serbian sinhala slovak
slovenian somali spanish sundanese swahili swedish tagalog tamil telugu thai tibetan turkish ukrainian urdu uzbek
vietnamese welsh xhosa yiddish yoruba zulu deutsch español français italiano português nederlands svenska polski 中文
英文 英语 汉语 日语 日本語 韩语 法语 德语 俄语 西班牙语
"""
LANGUAGE_NAMES = frozenset(_LANGUAGE_NAMES.split())

# What a text must hold for a search to be worth while, and the marks of the language.
CODE_MARKS: dict[str, tuple[tuple[str, ...], re.Pattern[str]]] = {
    "python": (
        ("def ", "class ", "import ", "@", "print", "self."),
        re.compile(
            r"^\s*(?:def \w+\(|class \w+[(:]|from [\w.]+ import |import \w|@\w+|print\()|\bself\.", re.MULTILINE
        ),
    ),
    "javascript": (
        ("function", "const ", "let ", "var ", "console.log", "=>", "===", "require("),
        re.compile(r"\b(?:function\s*\w*\s*\(|const \w+ =|let \w+ =|var \w+ =|console\.log|=>\s*[{(])|===|require\("),
    ),
    "typescript": (
        ("export ", "interface ", "type ", "string", "number", "boolean"),
        re.compile(r"^\s*(?:export |interface \w+ \{|type \w+ =)|:\s*(?:string|number|boolean)\b[,;)\s]", re.MULTILINE),
    ),
    "java": (
        ("public ", "private ", "protected ", "System.out.", "@Override"),
        re.compile(
            r"\b(?:public|private|protected) (?:static |final )*[\w<>\[\]]+ \w+\s*[(;=]|System\.out\.|@Override"
        ),
    ),
    "c": (
        ("#include", "printf(", "std::", "int ", "char ", "void ", "float ", "double "),
        re.compile(
            r"^\s*#include|\bprintf\(|\bstd::|\bint main\(|\b(?:int|char|void|float|double) \*?\w+\s*[(;=\[]",
            re.MULTILINE,
        ),
    ),
    "go": (
        ("package ", "func ", ":=", "fmt."),
        re.compile(r"^\s*(?:package \w+$|func (?:\(\w+ \*?\w+\) )?\w+\()|:=|\bfmt\.", re.MULTILINE),
    ),
    "rust": (
        ("fn ", "let mut ", "impl ", "println!", "->"),
        re.compile(r"\b(?:fn \w+\s*[(<]|let mut |impl \w+|pub fn |println!)|->\s*(?:Result|Option|Self)"),
    ),
    "ruby": (
        ("def ", "end", "require '", "puts ", ".each do |"),
        re.compile(r"^\s*(?:def \w+[?!]?$|end$|require '|puts )|\.each do \|", re.MULTILINE),
    ),
    "sql": (
        ("SELECT", "INSERT INTO", "UPDATE ", "CREATE TABLE", "DELETE FROM", "ALTER TABLE"),
        re.compile(r"\b(?:SELECT\b[\s\S]+?\bFROM|INSERT INTO|UPDATE \w+ SET|CREATE TABLE|DELETE FROM|ALTER TABLE)\b"),
    ),
    "shell": (
        ("#!/bin/", "$ ", "sudo ", "apt ", "cd ", "echo ", "grep ", "export ", "for "),
        re.compile(r"^\s*(?:#!/bin/|\$ |sudo |apt |cd |echo |grep |export \w+=|for \w+ in )", re.MULTILINE),
    ),
    "html": (
        ("<",),
        re.compile(r"</?(?:div|span|html|body|head|p|a|ul|li|table|script|img|input|button)\b[^>]*>"),
    ),
    "diff": (
        ("diff --git ", "@@ ", "+++ ", "--- "),
        re.compile(r"^(?:diff --git |@@ .* @@|\+\+\+ |--- [ab]/)", re.MULTILINE),
    ),
    "traceback": (
        ("Traceback", 'File "', "at "),
        re.compile(r"^(?:Traceback \(most recent|\s+File \".+\", line \d+|\s+at [\w.$<>]+\()", re.MULTILINE),
    ),
}
