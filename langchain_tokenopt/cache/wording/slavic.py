"""What is said around a question in Polish and Russian."""

from __future__ import annotations

from typing import Final

from langchain_tokenopt.cache.wording.language import (
    Language,
    counting,
    groups_of,
    kinds_of,
    words_of,
)

__all__ = ["POLISH", "RUSSIAN"]

POLISH: Final = Language(
    code="pl",
    known_by=words_of(
        "jak czy nie się na do jest co dlaczego kiedy gdzie ile mogę można mój moje w z i dla kto "
        "który która które po jaki jaka jakie są"
    ),
    asking=words_of(
        "co jak dlaczego czemu gdzie kiedy kto ile jaki jaka jakie który która które czy"
    ),
    polite=words_of("cześć hej witam dzień_dobry dobry_wieczór dziękuję dzięki z_góry_dziękuję"),
    same=groups_of("dlaczego czemu|email e-mail mail|samochód auto"),
    numbers=counting("dwa trzy cztery pięć sześć siedem osiem dziewięć dziesięć", dwie="2"),
    within="w",
    prepositions=words_of("w we na do z ze dla od po przez bez podczas przed przy między"),
    rewrites=(
        (r"^(?:cześć|hej|witam|dzień dobry|dobry wieczór) , ", ""),
        (r"^proszę(?: ,)? (?=\S+ )", ""),
        (
            r"^(?:czy )?(?:możesz|możecie|mógłbyś|mogłabyś|może pan|może pani)(?: mi)? "
            r"(?:powiedzieć|wyjaśnić|wytłumaczyć) , (?=ASK )",
            "@ ",
        ),
        (r"^(?:chciałbym|chciałabym|chcę) wiedzieć , (?=ASK )", "@ "),
        (r"^(?:czy )?(?:wiesz|wiecie|ktoś wie|ktoś może wie) , (?=ASK )", "@ "),
        (r"^(?:powiedz|proszę powiedzieć|wyjaśnij)(?: mi)?(?: proszę)? , (?=ASK )", "@ "),
        (r" ,? ?proszę$", ""),
        (r" , (?:dziękuję|dzięki|z góry dziękuję)$", ""),
        (r"^@ ", ""),
        (r"^(?:w jaki sposób|jak) (?:mogę|można|możemy|mógłbym|mogłabym) ", "jak "),
        (r"^w jaki sposób ", "jak "),
        (r"^(?:co to jest|czym jest|jaka jest|jaki jest) ", ""),
        (r"^(?:ile kosztuje|jaka jest cena) ", "cena "),
        (r"^czy (?:mogę|możemy) ", "czy można "),
        (r"^co oznacza ", "co znaczy "),
        (r"^(?:ile czasu|jak długo) (?:trzeba |należy |muszę )?(?=\S)", "jak długo "),
    ),
    kinds=kinds_of(
        negation="nie nigdy bez nic nikt żaden żadna ani",
        modal="mogę może można muszę musi powinien powinna trzeba wolno chcę",
        quantifier="wszystkie wszyscy każdy każda kilka wiele mało więcej mniej tylko też "
        "pierwszy ostatni",
        relation="w na do z dla od po przez podczas przed przy między i lub albo ale jeśli gdy bo",
        question="co jak dlaczego gdzie kiedy kto ile jaki jaka jakie który która które",
        person="ja mnie mój moja moje ty twój twoja on jego ona jej my nasz wy wasz oni ich",
        tense="jest był była było będzie są były ma miał",
    ),
)

RUSSIAN: Final = Language(
    code="ru",
    known_by=frozenset(),  # known by its script
    asking=words_of(
        "что как почему зачем отчего где куда откуда когда кто кого кому чем чему сколько какой "
        "какая какое какие каков какова чей который"
    ),
    polite=words_of(
        "привет здравствуйте добрый_день доброе_утро добрый_вечер спасибо большое_спасибо "
        "спасибо_заранее заранее_спасибо пожалуйста"
    ),
    same=groups_of("как каким_образом|почему отчего|автомобиль машина|процент %"),
    numbers=counting(
        "два три четыре пять шесть семь восемь девять десять",
        две="2",
        двадцать="20",
    ),
    within="в",
    prepositions=words_of("в во на для с со из от до по без при через между перед после около у"),
    rewrites=(
        (r"^(?:привет|здравствуйте|добрый (?:день|вечер)|доброе утро) , ", ""),
        (
            r"^(?:подскажите|подскажи|скажите|скажи|объясните|объясни|расскажите|расскажи)"
            r"(?: мне)?(?: ,)?(?: пожалуйста)? , (?=ASK )",
            "",
        ),
        (
            r"^(?:пожалуйста|будьте добры)(?: ,)? (?:подскажите|подскажи|скажите|скажи|объясните|"
            r"объясни)(?: мне)?(?: ,)? (?=ASK )",
            "",
        ),
        (r"^пожалуйста(?: ,)? (?=\S+ )", ""),
        (
            r"^(?:не )?(?:могли бы вы|можете ли вы|можете|можешь|мог бы ты)(?: мне)?"
            r"(?: пожалуйста)? (?:сказать|подсказать|объяснить)(?: мне)? , (?=ASK )",
            "",
        ),
        (
            r"^(?:хочу|хотел бы|хотела бы|хотелось бы|мне нужно|я хочу) (?:узнать|"
            r"знать) , (?=ASK )",
            "",
        ),
        (r"^(?:вы )?(?:не )?(?:знаете|знаешь)(?: ли)?(?: вы)? , (?=ASK )", ""),
        (r"^(?:интересно|мне интересно) , (?=ASK )", ""),
        (r" , пожалуйста$", ""),
        (r" ,(?: заранее)? спасибо(?: заранее)?$", ""),
        (r" , пожалуйста , ", " "),
        (
            r"^(?:каким образом|как) (?:мне можно|мне|можно|я могу|могу я|мы можем|можно ли) ",
            "как ",
        ),
        (r"^каким образом ", "как "),
        (r"^что (?:такое|значит|означает) ", "что такое "),
        (r"^чем (\S+) отличается ", r"чем отличается \1 "),
        (r"^где (?:находится|расположен[ао]?) ", "где "),
        (r"^(?:как долго|сколько времени) (?:нужно |надо |мне )*(?=\S+ть )", "сколько времени "),
        (r"^как долго ", "сколько времени "),
        (r"^(?:могу ли я|могу я|можем ли мы) ", "можно ли "),
        (r"^(?:в чём|в чем|какая|какова) разница ", "разница "),
        (r"^(нужн\S+ ли|надо ли|можно ли) мне ", r"\1 "),
        (r"^(как(?:ая|ой|ое)) (\S+) (.*?)(сам\S+ \S+)$", r"\1 \4 \2 \3"),
        (r"\bже ", ""),
        (r"^(?:назови|назовите|вычисли|вычислите|посчитай|посчитайте|найди|найдите) (?=\S)", ""),
        (r"^(объясни|напиши|реши|перечисли)(?:те)?(?: мне)? ", r"\1 "),
        (r"^(?:сколько стоит|какова цена) ", "цена "),
        (r"^(?:какова|каков|каково|каковы) ", ""),
        (r"\bградус\S* цельсия\b", "°c"),
    ),
    kinds=kinds_of(
        negation="не нет никогда без ничего никто нельзя ни никакой",
        modal="можно нужно надо должен должна должны могу может следует нельзя",
        quantifier="все всё каждый каждая несколько много мало больше меньше только также первый "
        "последний следующий любой",
        relation="в на для с из от до по при через между перед после около у и или но если чтобы "
        "потому как о об к",
        question="что как почему зачем где куда откуда когда кто сколько какой какая какое какие",
        person="я меня мне мой моя мои ты тебя твой твоя он его она её мы нас наш наша вы вас ваш "
        "ваша они их",
        tense="был была было были будет будут есть",
    ),
)
