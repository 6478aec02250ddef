"""What is said around a question in French, Spanish, Italian and Portuguese."""

from __future__ import annotations

from typing import Final

from langchain_tokenopt.cache.wording.language import (
    Language,
    counting,
    groups_of,
    kinds_of,
    words_of,
)

__all__ = ["FRENCH", "ITALIAN", "PORTUGUESE", "SPANISH"]

_ES_TRAITS: Final = (
    "(?:síntomas|ventajas|desventajas|beneficios|efectos|requisitos|causas|horarios|propiedades|"
    "características|riesgos|funciones|usos)"
)
_IT_TRAITS: Final = (
    "(?:sintomi|vantaggi|svantaggi|benefici|effetti|requisiti|cause|orari|proprietà|"
    "caratteristiche|rischi|funzioni|usi)"
)
_PT_TRAITS: Final = (
    "(?:sintomas|vantagens|desvantagens|benefícios|efeitos|requisitos|causas|horários|"
    "propriedades|características|riscos|funções|usos)"
)
"""What a thing has, and what is of it."""

FRENCH: Final = Language(
    code="fr",
    known_by=words_of(
        "le la les l' un une des du est et pourquoi comment je il elle pas que quel quelle quels "
        "quelles où quand combien mon ma mes pour avec dans sur ce cette qui d' j' qu' peut puis "
        "dois sont"
    ),
    asking=words_of(
        "que qu' qui quoi quel quelle quels quelles comment pourquoi où quand combien lequel "
        "laquelle"
    ),
    polite=words_of(
        "bonjour salut bonsoir coucou merci merci_d'_avance merci_beaucoup svp stp "
        "merci_bien s'_il_vous_plaît s'_il_te_plaît"
    ),
    same=groups_of(
        "le un|la une|email e-mail mail courriel|voiture automobile|vélo bicyclette|lequel laquelle"
    ),
    numbers=counting(
        "deux trois quatre cinq six sept huit neuf dix onze douze",
        quinze="15",
        vingt="20",
        trente="30",
        cinquante="50",
        cent="100",
    ),
    within="dans",
    prepositions=words_of(
        "dans en pour avec sur sous sans pendant depuis vers chez entre avant après par"
    ),
    rewrites=(
        (r"^(?:bonjour|salut|bonsoir|coucou) , ", ""),
        (r"^(?:petite question|1 question|j' ai la question|j' ai 1 question) , ", ""),
        (r"^s' il (?:vous|te) plaît , ", ""),
        (
            r"^(?:pouvez vous|peux tu|pourriez vous|pourrais tu|tu peux|vous pouvez|"
            r"est ce que (?:vous pouvez|tu peux|tu pourrais|vous pourriez)) (?:me|m') "
            r"(?:dire|expliquer|indiquer|préciser)(?: ,)? (?=ASK )",
            "@ ",
        ),
        (
            r"^(?:je|j') (?:voudrais|veux|souhaite|souhaiterais|aimerais|cherche à)"
            r"(?: bien)?(?: savoir| comprendre)(?: ,)? (?=ASK )",
            "@ ",
        ),
        (r"^(?:savez vous|sais tu|sauriez vous|quelqu'un sait)(?: ,)? (?=ASK )", "@ "),
        (r"^(?:dites|dis|explique|expliquez|indiquez) moi(?: ,)? (?=ASK )", "@ "),
        (r" ,? ?(?:s' il (?:vous|te) plaît|svp|stp)$", ""),
        (
            r"^(?:pouvez vous|peux tu|pourriez vous|pourrais tu|tu peux|vous pouvez|"
            r"est ce que (?:vous pouvez|tu peux)) m' expliquer (?=\S)",
            "explique ",
        ),
        (r"^(expliqu|donn|montr|nomm)(?:e|ez)(?: moi| nous)? (?=\S)", r"\1e "),
        (r"^explique ce qu' est (?=(?:le|la|les|l') )", ""),
        (r" , merci(?: d' avance| beaucoup)?$", ""),
        (r"^@ ", ""),
        (
            r"^(?:qu' est ce que c' est (?:que |qu' )?|qu' est ce que |"
            r"qu' est ce qu' |c' est quoi )"
            r"(?=(?:le|la|les|l') )",
            "que est ",
        ),
        (r"\best ce (?:que|qu') ", ""),
        (
            r"^(ASK) ((?:le|la|les|l'|mon|ma|mes|ce|cette|ces|votre|vos|notre|nos|son|sa|ses) .+?) "
            r"(\S+)(?: t)? (?:il|elle|ils|elles)\b",
            r"\1 \2 \3",
        ),
        (r"^(ASK) (?:exactement|au juste) ", r"\1 "),
        (r"^où se trouvent? ", "où est "),
        (r"\bpuis je\b", "je peux"),
        (r"\bpeut on\b", "on peut"),
        (r"\bdois je\b", "je dois"),
        (r"\bfaut il\b", "il faut"),
        (r"\bpouvons nous\b", "on peut"),
        (r"\b[Yy] a t il\b", "il y a"),
        (r"\ba t il\b", "il a"),
        (r"\ba t on\b", "on a"),
        (r"\bdoit on\b", "on doit"),
        (
            r"^comment (?:je peux|on peut|je pourrais|on pourrait|nous pouvons|faire pour|"
            r"je fais pour|on fait pour|je dois faire pour) ",
            "comment ",
        ),
        (
            r"^(combien(?: de \S+)?|à quelle \S+|tous les combien) "
            r"(?:je dois|on doit|nous devons|il faut) ",
            r"\1 il faut ",
        ),
        (r"^comment (?:j'|je) (\S{3,})e (?=\S)", r"comment \1er "),
        (r"^quelle?s (\S+) (?:a|ont) (?=(?:le|la|les|l'|mon|ma|mes) )", r"les \1 de "),
        (r"^(?:ai je|est ce que j' ai|a t on|on a) besoin (?=d')", "j' ai besoin "),
        (r"^(?:quel est|quelle est|quels sont|quelles sont|que est) ", ""),
        (r"^(?:combien coûte|combien coûtent|le prix d[e'](?= l)|le prix de) ", "prix de "),
        (r"^(?:(?:il )?est(?: ce| il)? possible|c' est possible) d[e'] ", "on peut "),
        (r"^je peux ", "on peut "),
        (r"^Y il a ", "il y a "),
        (r"^(que|qu') (?:je dois|je peux|on doit|on peut|il faut) faire\b", "que faire"),
        (r"\bdegré celsius\b", "°c"),
        (r"\bpour cent\b", "%"),
        (r"\bdans (?=(?:l'|le|la) (?:année|mois)\b)", "en "),
        (r"\ben (?:la |1 )?(?:seule )?phrase\b", "en 1 phrase"),
    ),
    kinds=kinds_of(
        negation="ne n' pas jamais sans aucun aucune rien personne ni non",
        modal="peux peut peuvent dois doit doivent faut veux voudrais pourrait devrait",
        quantifier="tout tous toute toutes chaque quelques plusieurs beaucoup peu plus moins "
        "seulement aussi même dernier prochain premier assez trop",
        relation="à de en dans pour avec sur sous par vers chez entre avant après depuis pendant "
        "contre et ou mais si parce comme d' au aux du des",
        question="que qu' qui quoi quel quelle quels quelles comment pourquoi où quand combien",
        person="je j' me m' moi mon ma mes tu te t' toi ton ta tes il elle lui son sa ses nous "
        "notre nos vous votre vos ils elles leur leurs on",
        tense="est était sera sont a avait aura ont été être avoir",
    ),
)

SPANISH: Final = Language(
    code="es",
    known_by=words_of(
        "el la los las un una es son cómo qué cuál cuáles cuánto cuántos cuánta cuántas dónde "
        "cuándo quién por para mi mis se del al y en con que puedo no de dame dime"
    ),
    asking=words_of(
        "qué cómo cuál cuáles cuánto cuánta cuántos cuántas dónde adónde cuándo quién quiénes por "
        "para"
    ),
    polite=words_of(
        "hola buenas buenos_días buenas_tardes buenas_noches gracias muchas_gracias por_favor "
        "gracias_de_antemano"
    ),
    same=groups_of(
        "el un|la una|los unos|las unas|coche carro auto|móvil celular|ordenador computadora|"
        "email e-mail|empezar comenzar"
    ),
    numbers=counting(
        "dos tres cuatro cinco seis siete ocho nueve diez once doce",
        quince="15",
        veinte="20",
        treinta="30",
        cincuenta="50",
        cien="100",
    ),
    within="en",
    prepositions=words_of(
        "en para con por desde hasta sin sobre entre durante hacia antes después según"
    ),
    rewrites=(
        (r"^(?:hola|buenas|buenos días|buenas (?:tardes|noches)) , ", ""),
        (r"^(?:la (?:pregunta|duda|consulta)(?: rápida)?|tengo la (?:pregunta|duda)) , ", ""),
        (r"^por favor(?: ,)? (?=\S+ )", ""),
        (
            r"^(?:me )?(?:puedes|puede|podrías|podría|podéis|pueden) (?:decirme|"
            r"explicarme|indicarme|"
            r"decir|explicar|indicar)(?: por favor)?(?: ,)? (?=ASK )",
            "@ ",
        ),
        (r"^(?:quisiera|quiero|querría|me gustaría|necesito) saber(?: ,)? (?=ASK )", "@ "),
        (r"^(?:sabes|sabe usted|sabe alguien|alguien sabe|sabéis)(?: ,)? (?=ASK )", "@ "),
        (r"^(?:dime|dígame|explícame|explíqueme|indícame)(?: por favor)?(?: ,)? (?=ASK )", "@ "),
        (r" ,? ?por favor$", ""),
        (r" ,(?: muchas)? gracias(?: de antemano)?$", ""),
        (r"^@ ", ""),
        (
            r"^cómo (?:puedo|se puede|podría|podemos|puede uno|hago para|se hace para|"
            r"puedo hacer para) ",
            "cómo ",
        ),
        (r"^cómo (\S{3,}?)(?:ar|er|ir|o) (?=\S)", r"cómo \1 "),
        (
            r"^((?:cuánto tiempo|cuántas veces|cada cuánto|a qué \S+) )"
            r"(?:hay que|debo|se debe|se deben|tengo que|debemos|tenemos que) ",
            r"\1hay que ",
        ),
        (
            r"^(?:se necesita|es necesari[oa]|hace falta|necesitamos) (?!saber|que )",
            "necesito ",
        ),
        (rf"^qué ({_ES_TRAITS}) tienen? (?=(?:el|la|los|las|mi|mis) )", r"los \1 de "),
        (rf"^cuáles son (?:los|las) (?={_ES_TRAITS} de )", "los "),
        (r"^qué (.+?) es (el|la|los|las) (mejor|peor|mayor|menor|más \S+)\b", r"cuál es \2 \3 \1"),
        (
            r"^(?:cuánto cuesta|cuánto cuestan|cuánto vale|cuál es el precio de|"
            r"qué precio tienen?) ",
            "precio de ",
        ),
        (r"^qué diferencia hay (?=entre )", "la diferencia "),
        (r"^en qué (?:fecha|momento) ", "cuándo "),
        (
            r"^(?:es posible|puedo|podemos|(?:hay|existe) (?:alguna|la) (?:forma|manera) "
            r"(?:de|para)) (?!que )",
            "se puede ",
        ),
        (r"^(?:cuál es el significado de|qué quiere decir) ", "qué significa "),
        (r"^dónde (?:se encuentra|queda) ", "dónde está "),
        (r"^(ASK) exactamente ", r"\1 "),
        (r"^(?:calcula|calcule|calcular|dime|dame) (?=\S)", ""),
        (r"\b(?:esta frase|la siguiente frase|la frase siguiente)\b", "la frase"),
        (r"^(?:cuál es|cuáles son|qué es) ", ""),
        (r"\bgrado celsius\b", "°c"),
        (r"\bpor ciento\b", "%"),
        (r"\ben (?:la |1 )?(?:sola )?frase\b", "en 1 frase"),
    ),
    kinds=kinds_of(
        negation="no nunca jamás sin nada nadie ningún ninguno ninguna ni tampoco",
        modal="puedo puede pueden debo debe deben hay tengo quiero podría debería",
        quantifier="todo todos toda todas cada algunos algunas varios muchos pocos más menos solo "
        "sólo también último próximo primero primera bastante",
        relation="a de en para con por desde hasta sin sobre entre durante hacia antes después "
        "según y o pero si porque como al del",
        question="qué cómo cuál cuáles cuánto cuánta cuántos cuántas dónde cuándo quién quiénes",
        person="yo me mi mis tú te tu tus él ella le lo la su sus nosotros nos nuestro nuestra "
        "usted ustedes ellos ellas les",
        tense="es era fue será son está estaba ha había he han sido ser estar",
    ),
)

ITALIAN: Final = Language(
    code="it",
    known_by=words_of(
        "il lo gli i la le un una uno è sono come cosa che perché quale quali quanto quanti quando "
        "dove chi per con di del della nel nella mio mia si posso non l' dell'"
    ),
    asking=words_of(
        "che cosa cos' come perché quale quali qual quanto quanta quanti quante quando dove chi"
    ),
    polite=words_of(
        "ciao salve buongiorno buonasera grazie grazie_mille per_favore grazie_in_anticipo"
    ),
    same=groups_of("il un|la una|lo uno|qual quale|auto macchina automobile|email e-mail mail"),
    numbers=counting(
        "due tre quattro cinque sei sette otto nove dieci undici dodici",
        quindici="15",
        venti="20",
        trenta="30",
        cinquanta="50",
        cento="100",
    ),
    within="in",
    prepositions=words_of(
        "in per con su da tra fra senza durante dal dalla nel nella nello sul sulla prima dopo"
    ),
    rewrites=(
        (r"^(?:ciao|salve|buongiorno|buonasera) , ", ""),
        (r"^per (?:favore|piacere)(?: ,)? (?=\S+ )", ""),
        (
            r"^(?:mi )?(?:puoi|può|potresti|potrebbe|sapresti|saprebbe) (?:dirmi|spiegarmi|dire|"
            r"spiegare|indicarmi)(?: per favore)?(?: ,)? (?=ASK )",
            "@ ",
        ),
        (r"^(?:vorrei|voglio|mi piacerebbe|ho bisogno di) sapere(?: ,)? (?=ASK )", "@ "),
        (r"^(?:sai|sa|sapete|qualcuno sa)(?: dirmi)?(?: ,)? (?=ASK )", "@ "),
        (r"^(?:dimmi|mi dica|spiegami)(?: per favore)?(?: ,)? (?=ASK )", "@ "),
        (r" ,? ?per (?:favore|piacere)$", ""),
        (r" , grazie(?: mille| in anticipo)?$", ""),
        (r"^@ ", ""),
        (
            r"^come (?:posso|si può|potrei|possiamo|faccio a|si fa a|faccio per|fare a|fare per) ",
            "come ",
        ),
        (
            r"^(?:per )?quanto tempo (?:bisogna|devo|si deve|si devono|ci vuole per) ",
            "quanto tempo bisogna ",
        ),
        (r"^(?:ho|abbiamo|si ha) bisogno di (?=il |la |lo |l' )", "mi serve "),
        (r"^(?:ho|abbiamo|si ha) bisogno del ", "mi serve il "),
        (r"^(?:ho|abbiamo|si ha) bisogno della ", "mi serve la "),
        (r"^(?:serve|ci vuole|occorre|è necessari[oa]) (?=il |la |lo |l' )", "mi serve "),
        (rf"^(?:che|quali) ({_IT_TRAITS}) ha l' ", r"i \1 dell' "),
        (rf"^(?:che|quali) ({_IT_TRAITS}) ha la ", r"i \1 della "),
        (rf"^(?:che|quali) ({_IT_TRAITS}) ha il ", r"i \1 del "),
        (rf"^quali sono (?:i|gli|le) (?={_IT_TRAITS} (?:di|del|della|dell') )", "i "),
        (r"^(?:che cosa|cosa|cos') ", "che "),
        (r"^che significa ", "che vuol dire "),
        (r"^qual è il significato di ", "che vuol dire "),
        (r"^dove si trova ", "dov' è "),
        (r"^(?:che|quale) differenza (?:c' è|esiste) (?=tra |fra )", "la differenza "),
        (r"^qual è il prezzo di ", "quanto costa "),
        (r"^(?:è possibile|posso|possiamo|c' è il modo (?:di|per)) (?!che )", "si può "),
        (r"^(?:quale|che) (.+?) è (il|la) (migliore|peggiore|più \S+)\b", r"\2 \3 \1"),
        (r"^(?:calcola|calcolare|dimmi) (?=\S)", ""),
        (r"^(?:qual è|quale è|quali sono|che è) ", ""),
        (r"^(?:quanto costa|quanto costano|il prezzo di) ", "prezzo di "),
        (r"\bin (?:la |1 )?(?:sola )?frase\b", "in 1 frase"),
        (r"\bper cento\b", "%"),
        (r"\bgrado celsius\b", "°c"),
    ),
    kinds=kinds_of(
        negation="non mai senza nessuno nessuna niente nulla né",
        modal="posso può possono devo deve devono voglio vorrei potrei dovrei bisogna",
        quantifier="tutto tutti tutte ogni alcuni alcune molti pochi più meno solo anche ultimo "
        "prossimo primo prima abbastanza",
        relation="a di in per con su da tra fra dopo durante e o ma se perché come",
        question="che cosa cos' come perché quale quali qual quanto quanti quando dove chi",
        person="io mi me mio mia miei tu ti te tuo tua lui lei suo sua noi ci nostro nostra voi "
        "vostro loro gli",
        tense="è era fu sarà sono ha aveva ho hanno stato essere avere",
    ),
)

PORTUGUESE: Final = Language(
    code="pt",
    known_by=words_of(
        "o os as um uma é são como que qual quais quanto quantos quando onde quem por para meu "
        "minha do da no na em não com se posso porque mais ao"
    ),
    asking=words_of(
        "que qual quais quanto quanta quantos quantas como onde quando quem por porque o"
    ),
    polite=words_of(
        "olá oi bom_dia boa_tarde boa_noite obrigado obrigada muito_obrigado muito_obrigada "
        "por_favor obrigado_desde_já"
    ),
    same=groups_of(
        "o um|a uma|os uns|as umas|carro automóvel|celular telemóvel|email e-mail|"
        "ônibus autocarro|trem comboio"
    ),
    numbers=counting(
        "dois três quatro cinco seis sete oito nove dez onze doze",
        duas="2",
        quinze="15",
        vinte="20",
        trinta="30",
        cinquenta="50",
        cem="100",
    ),
    within="em",
    prepositions=words_of(
        "em para com por desde até sem sobre entre durante no na nos nas num numa pelo pela "
        "antes depois"
    ),
    rewrites=(
        (r"^(?:olá|oi|bom dia|boa tarde|boa noite) , ", ""),
        (r"^por favor(?: ,)? (?=\S+ )", ""),
        (
            r"^(?:você )?(?:pode|poderia|podes|podias|consegue) (?:me )?(?:dizer|explicar|indicar|"
            r"informar)(?: me)?(?: por favor)?(?: ,)? (?=ASK )",
            "@ ",
        ),
        (r"^(?:gostaria de|queria|quero|preciso) saber(?: ,)? (?=ASK )", "@ "),
        (r"^(?:você sabe|sabes|sabe|alguém sabe)(?: ,)? (?=ASK )", "@ "),
        (r"^(?:diga me|diz me|me diga|explica me|me explique)(?: ,)? (?=ASK )", "@ "),
        (r" ,? ?por favor$", ""),
        (r" ,(?: muito)? obrigad[oa]$", ""),
        (r"^@ ", ""),
        (
            r"^como (?:é que )?(?:posso|se pode|podemos|poderia|faço para|fazer para|"
            r"eu faço para|eu posso) ",
            "como ",
        ),
        (r"\bé que ", ""),
        (r"^o que ", "que "),
        (
            r"^quanto tempo (?:leva|demora|é preciso|preciso|é necessário)(?: para)? ",
            "quanto tempo leva para ",
        ),
        (
            r"^(?:é preciso|é necessário|é necessária|precisa se de|precisamos de|necessito de) "
            r"(?!saber)",
            "preciso de ",
        ),
        (rf"^que ({_PT_TRAITS}) (?:a|o) (\S+) tem$", r"os \1 de \2"),
        (rf"^quais são (?:os|as) ({_PT_TRAITS}) d[ao] (?=\S+$)", r"os \1 de "),
        (r"^que quer dizer ", "que significa "),
        (r"^qual é o significado de ", "que significa "),
        (r"^(?:que|qual) diferença (?:há|existe) (?=entre )", "a diferença "),
        (r"^qual é o preço de ", "quanto custa "),
        (
            r"^(?:é possível|dá para|podemos|(?:há|existe) alguma (?:forma|maneira) de) (?!que )",
            "posso ",
        ),
        (r"^onde (?:fica|se encontra|se situa) ", "onde está "),
        (r"^(?:qual|que) (.+?) é (o|a) (melhor|pior|maior|menor|mais \S+)\b", r"\2 \3 \1"),
        (r"^(?:calcule|calcula|calcular) (?=\S)", ""),
        (r"^(?:qual é|quais são|que é) ", ""),
        (r"^(?:quanto custa|quanto custam|o preço de) ", "preço de "),
        (r"\bn?(?:uma|a) única frase\b", "numa frase"),
        (r"\bem (?:a |1 )(?:única )?frase\b", "numa frase"),
        (r"\bpor cento\b", "%"),
        (r"\bgrau celsius\b", "°c"),
    ),
    kinds=kinds_of(
        negation="não nunca jamais sem nada ninguém nenhum nenhuma nem",
        modal="posso pode podem devo deve devem preciso quero poderia deveria",
        quantifier="todo todos toda todas cada alguns algumas vários muitos poucos mais menos só "
        "apenas também último próximo primeiro bastante",
        relation="a de em para com por desde até sobre entre durante antes depois e ou mas se "
        "porque como ao do da no na",
        question="que qual quais quanto quanta quantos quantas como onde quando quem",
        person="eu me mim meu minha tu te teu tua ele ela seu sua nós nos nosso nossa você vocês "
        "eles elas lhe",
        tense="é era foi será são está estava tem tinha tenho ser estar ter",
    ),
)
