"""What is said around a question in German and Dutch."""

from __future__ import annotations

from typing import Final

from langchain_tokenopt.cache.wording.language import (
    Language,
    counting,
    groups_of,
    kinds_of,
    words_of,
)

__all__ = ["DUTCH", "GERMAN"]

GERMAN: Final = Language(
    code="de",
    known_by=words_of(
        "der die das den dem ist sind wie was warum wann wo wer welche welcher welches ich nicht "
        "und ein eine einen kann man mein meine für mit auf zu im wird bei muss wieviel wieviele"
    ),
    asking=words_of(
        "was wie warum wieso weshalb wo wohin woher wann wer wen wem welche welcher welches "
        "welchen welchem wozu womit wofür wodurch woran wovon"
    ),
    polite=words_of(
        "hallo hi moin servus guten_tag guten_morgen guten_abend danke vielen_dank danke_schön "
        "bitte danke_im_voraus vielen_dank_im_voraus besten_dank"
    ),
    same={
        **groups_of(
            "der das ein einer|die eine|den einen|dem einem|des eines|warum wieso weshalb|"
            "pkw auto|email e-mail mail|handy mobiltelefon|foto fotografie|"
            "beginnen anfangen|ca circa ungefähr etwa|gebrauchen benutzen verwenden nutzen"
        ),
    },
    numbers=counting(
        "zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
        fünfzehn="15",
        zwanzig="20",
        dreißig="30",
        fünfzig="50",
    ),
    within="in",
    prepositions=words_of(
        "in im an am auf für mit von vom zu zum zur bei beim nach aus durch ohne während vor seit "
        "über unter zwischen"
    ),
    rewrites=(
        (r"^(?:hallo|hi|moin|servus|guten (?:tag|morgen|abend))(?: zusammen| leute| alle)? , ", ""),
        (r"^(?:kurze frage|ich (?:habe|hätte) der frage|ich (?:habe|hätte) die frage) , ", ""),
        (r"^bitte(?: ,)? (?=\S+ )", ""),
        (
            r"^(?:kannst du|können [Ss]ie|könntest du|könnten [Ss]ie|kann mir jemand|könnt ihr)"
            r"(?: mir| uns)?(?: bitte)? (?:sagen|erklären|verraten|mitteilen) , (?=ASK )",
            "@ ",
        ),
        (r"^(?:weißt du|wissen [Ss]ie|weiß jemand|wisst ihr)(?: vielleicht)? , (?=ASK )", "@ "),
        (
            r"^ich (?:möchte|will|wüsste|würde)(?: gern| gerne)?(?: wissen| erfahren)? , (?=ASK )",
            "@ ",
        ),
        (r"^ich (?:frage|frag) mich , (?=ASK )", "@ "),
        (
            r"^(?:sag|sagen [Ss]ie|sage|erklär|erkläre|erklären [Ss]ie|verrate) "
            r"(?:mir|uns)(?: bitte)? , (?=ASK )",
            "@ ",
        ),
        (r" ,(?: bitte| danke| vielen dank| danke im voraus)$", ""),
        (
            r"^((?:kannst du|können [Ss]ie|könntest du|könnten [Ss]ie|erkläre|nenne|"
            r"schreib|schreibe|gib) "
            r".*?) bitte\b",
            r"\1",
        ),
        (
            r"^@ ((?:was|wie|wo|wann|wer|warum|wohin|woher)(?: (?:viele?|hoch|lange?|oft|alt|groß|"
            r"weit|teuer|schwer|tief|spät))?) (.+) (\S+)$",
            r"\1 \3 \2",
        ),
        (
            r"^(wie (?:oft|lange|viel|früh|spät)(?: \S+)?) (?:muss|müssen) "
            r"(?:ich|man|wir) ",
            r"\1 muss man ",
        ),
        (
            r"^was (?:mache ich|tue ich|macht man|(?:kann|soll|muss|könnte|sollte) (?:ich|man) "
            r"(?:tun|machen)|tun|ist zu tun)(?: ,)? (?=wenn )",
            "was tun , ",
        ),
        (r"^welche (\S+) hat die (\S+)$", r"die \1 der \2"),
        (r"^welche (\S+) (?:hat|haben) (\S+)$", r"die \1 von \2"),
        (
            r"\b(?:brauche ich|brauchen wir|benötige ich|benötigt man|benötigen wir)\b",
            "braucht man",
        ),
        (
            r"^wie (?:kann|könnte|könnten|können) (?:ich|man|wir) (.+?) (\S{3,}?)e?n$",
            r"wie \2 \1",
        ),
        (
            r"^wie (?!viel|lang|hoh|weit|gern|groß|alt|oft|lauf|steh)(\S{3,}?)(?:en|e|t) "
            r"(?:ich|man|wir) (.+)$",
            r"wie \1 \2",
        ),
        (
            r"^wie (?!kann |muss |soll |ist |viel|lang|oft )(\S+) (.+) (ab|an|auf|aus|ein|um|"
            r"zurück|zusammen|vor|nach|weg|her|hin|los|mit|frei|fest|hoch|runter|weiter|wieder)$",
            r"wie \3\1 \2",
        ),
        (
            r"^welche[rs]? (.+?) ist (der|die|das) (\S+ste)\b",
            r"\2 \3 \1",
        ),
        (
            r"^(nenn|schreib|erklär|zeig|beschreib|berechn|erstell|formulier|übersetz|korrigier)"
            r"(?:en [Ss]ie|e)?(?: mir| uns)?(?: bitte)? (?=\S)",
            r"\1 ",
        ),
        (r"^(?:nenn|berechn) (?=\S)", ""),
        (r"\b(?:diesen|folgenden|den folgenden) (satz|text)\b", r"den \1"),
        (r"^@ ", ""),
        (
            r"^(?:wie lautet|was ist|welches ist|welche ist|welcher ist|wie lauten|"
            r"was sind|welche sind) ",
            "",
        ),
        (r"^(?:was kostet|wie viel kostet|wieviel kostet|wie teuer ist) (.+)$", r"preis \1"),
        (r"^wie (?:hoch|teuer) ist der (?:preis|kosten) (?:für|von) ", "preis "),
        (r"^was bedeutet ", "was heißt "),
        (r"^(ASK) (?:genau|eigentlich|denn) ", r"\1 "),
        (r"\b(?:eigentlich|denn) ", ""),
        (r" (?:eigentlich|denn)$", ""),
        (r"\bwieviel(e?)\b", r"wie viel\1"),
        (
            r"^(?:kannst du|können [Ss]ie|könntest du|könnten [Ss]ie)(?: mir| uns)? (.+) "
            r"(erklär|nenn|zeig|beschreib)en$",
            r"\2 \1",
        ),
        (
            r"^(?:ist es möglich|gibt es (?:die|der) möglichkeit)(?: ,)? (.+) zu (\S+n)$",
            r"kann man \1 \2",
        ),
        (
            r"^(?:ist es möglich|gibt es (?:die|der) möglichkeit)(?: ,)? (.+) "
            r"(ab|an|auf|aus|ein|um|zurück|zusammen|vor|nach|weg|hin|los|mit|frei|fest|hoch|weiter)zu(\S+n)$",
            r"kann man \1 \2\3",
        ),
        (r"^(?:kann ich|können wir) ", "kann man "),
        (r"^wo (?:liegt|befindet sich) ", "wo ist "),
        (r"\bgrad celsius\b", "°c"),
        (r"\bin (?:1|den|der|einem|dem|ein)(?: einzigen| kurzen)? satz\b", "in 1 satz"),
        (r"\bz b\b", "zum beispiel"),
    ),
    kinds=kinds_of(
        negation="nicht kein keine keinen keiner keinem nie niemals ohne nichts niemand weder",
        modal="kann darf muss soll sollte könnte will möchte würde dürfen müssen sollen können",
        quantifier="alle jeder jede jedes einige manche viele wenige mehr weniger nur auch erst "
        "letzte nächste beide etwas genug",
        relation="in an auf für mit von zu bei nach aus durch während vor seit über unter zwischen "
        "gegen bis und oder aber wenn weil als um am im vom zum zur beim",
        question="was wie warum wo wohin woher wann wer wen wem welche welcher welches welchen",
        person="ich mich mir mein meine du dich dir dein deine er ihn ihm sein seine sie ihr ihre "
        "wir uns unser unsere es man",
        tense="ist war wird wurde hat hatte sind waren haben hatten werden wurden",
    ),
)

DUTCH: Final = Language(
    code="nl",
    known_by=words_of(
        "de het een hoe waarom wat wie wanneer waar welke ik niet en kan mijn voor met is zijn "
        "van op te naar dat je moet"
    ),
    asking=words_of("wat hoe waarom waar wanneer wie welke welk hoeveel"),
    polite=words_of(
        "hallo hoi dag goedemorgen goedemiddag goedenavond bedankt dankjewel dank_je_wel "
        "alvast_bedankt alstublieft alsjeblieft"
    ),
    same=groups_of("de het een|email e-mail mail"),
    numbers=counting("twee drie vier vijf zes zeven acht negen tien elf twaalf"),
    within="in",
    prepositions=words_of("in op voor met van naar bij uit zonder tijdens tussen over onder na"),
    rewrites=(
        (r"^(?:hallo|hoi|dag|goedemorgen|goedemiddag|goedenavond) , ", ""),
        (
            r"^(?:kun|kunt|kan|zou) (?:je|jij|u|iemand)(?: kunnen)? (?:me|mij)(?: alsjeblieft| "
            r"alstublieft)? (?:vertellen|zeggen|uitleggen)(?: ,)? (?=ASK )",
            "@ ",
        ),
        (r"^leg (?:me|mij|ons)(?: eens)? uit(?: ,)? (?=ASK )", "@ "),
        (r"^(?:weet|weten) (?:je|jij|u|iemand|jullie)(?: misschien)?(?: ,)? (?=ASK )", "@ "),
        (r"^ik (?:wil|zou) (?:graag )?(?:willen )?weten(?: ,)? (?=ASK )", "@ "),
        (r" ,? ?(?:alsjeblieft|alstublieft|aub|graag)$", ""),
        (r" ,(?: alvast)? bedankt$", ""),
        (r"^@ (wat|waar|wie|wanneer) ((?:\S+ )*\S+) is$", r"\1 is \2"),
        (r"^@ ", ""),
        (r"^wat is de betekenis van ", "wat betekent "),
        (r"^is de mogelijk om (.+) te (\S+)$", r"kan ik \1 \2"),
        (r"^(?:kan men|kunnen we) ", "kan ik "),
        (r"^(?:wat is|wat zijn) ", ""),
        (r"^(?:wat kost|hoeveel kost) ", "prijs "),
        (r"^hoe (?:kan|kunnen) (?:ik|je|we|men) ", "hoe kan ik "),
        (r"^(hoe (?:lang|vaak|veel)(?: \S+)?) moet(?:en)? (?:ik|je|we|men) (?=\S)", r"\1 moet "),
        (r"^(?:is|zijn) (\S+|de \S+) (?:nodig|vereist)\b", r"heb ik \1 nodig"),
        (r"^heeft men (\S+|de \S+) nodig\b", r"heb ik \1 nodig"),
    ),
    kinds=kinds_of(
        negation="niet geen nooit zonder niets niemand",
        modal="kan mag moet zal zou wil kunnen mogen moeten",
        quantifier="alle elke ieder sommige veel weinig meer minder alleen ook eerste laatste",
        relation="in op voor met van naar bij uit tijdens tussen over onder na en of maar als om",
        question="wat hoe waarom waar wanneer wie welke welk hoeveel",
        person="ik me mij mijn je jij jouw hij hem zijn zij ze haar wij we ons onze u uw",
        tense="is was wordt werd heeft had hebben waren",
    ),
)
